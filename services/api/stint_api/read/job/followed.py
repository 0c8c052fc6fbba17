"""One job for all who follow it in this process: they hear the same news, and share each read of the streams."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from copy import copy
from functools import partial
from typing import Any, Final, TypeVar

from stint.core.job import Job
from stint.core.output.chain import Chunk
from stint.ports import EventLog, News, OutputLog, Place
from stint.process.background import cancel
from stint.process.waiting import any_of
from stint_api.read.job.output import CHUNK_COST

TICK: Final = 10.0
"""Seconds after which the streams are read again without news, and what was announced is forgotten: a live message can
be lost, or forged."""
SOON: Final = 0.1
"""Seconds from a look that was not complete to the next one, then four times as long each time up to `TICK`: news comes
from a stream's leader, and the replica that is read may lag behind."""
GAP: Final = 0.02
"""Seconds between two looks at least, so that no flood of messages makes a job's followers ask NATS more often."""
SHARED: Final = 512 * 1024
"""Bytes of output that are read for all at a time."""

T = TypeVar("T")


class Announced:
    """The newest message that live messages have named, for `TICK` seconds: what nobody could read was invented."""

    def __init__(self) -> None:
        self.sequence = 0
        self._forgotten_at = 0.0

    def hear(self, sequence: int, now: float) -> None:
        """Another one was named, or none if `sequence` is 0. `now` is in seconds, by any clock."""
        if sequence > self.sequence or now >= self._forgotten_at:
            self.sequence, self._forgotten_at = sequence, now + TICK


class FollowedJob:
    """Says when to look, and reads once for all who look at the same place.

    Attributes:
        look: number of the present look; what is read in it was stored before or after it began, but no news is missed.
        facts_look: the last look for which there may have been new facts.
        chunk: the newest output that live messages have named.
        next_look: set when there is another one, which has another event.
        followers: how many there are.
    """

    def __init__(self, log: EventLog, output: OutputLog, place: Place) -> None:
        self._log = log
        self._output = output
        self._place = place
        self._fact, self.chunk = Announced(), Announced()
        self._sequence = 0
        self._facts_due = 0.0
        self._end = -1
        self._reads: dict[object, asyncio.Task[Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._incomplete = asyncio.Event()
        self._listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.look = self.facts_look = 1
        self.next_look = asyncio.Event()
        self.followers = 0
        self._start(self._watch())

    async def listening(self) -> None:
        """Return once no news can be missed."""
        await asyncio.shield(self._listening)

    async def close(self) -> None:
        """End the subscription and what is being read."""
        await cancel(*self._running)

    def look_again(self) -> None:
        """Somebody could not read in this look all that there is: have another one soon."""
        self._incomplete.set()

    async def load(self) -> Job | None:
        """The job, from its events. If it lacks one that was announced, there will be another look soon."""
        least = max(self._sequence, self._fact.sequence)
        job = await self._shared("job", partial(self._log.load, self._place.job_id, at_least=least))
        self._sequence = max(self._sequence, job.sequence if job else 0)
        if job is None or job.sequence < least:
            self.look_again()
        return job

    async def chunks(self, after: int) -> AsyncIterator[Chunk]:
        """The output behind this sequence. Where somebody has read to the end before, it is read once for all."""
        start = after
        if not 0 <= self._end <= after:
            async for chunk in self._output.read(*self._place, after=after):
                yield chunk
                after = chunk.sequence
        else:
            complete = False
            while not complete:
                begin = after
                found, complete = await self._shared(after, partial(self._some, after))
                for chunk in found:
                    yield chunk
                    after = chunk.sequence
                if not complete:  # kept for those who read at the same time, not for those who lag far behind
                    self._reads.pop(begin, None)
        if after > start or not start:  # a sequence behind which there is nothing may be invented
            self._end = max(self._end, after)

    async def _some(self, after: int) -> tuple[list[Chunk], bool]:
        found, size = list[Chunk](), 0
        async for chunk in self._output.read(*self._place, after=after):
            found.append(chunk)
            size += len(chunk.data) + CHUNK_COST
            if size >= SHARED:
                return found, False
        return found, True

    async def _shared(self, what: object, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        reading: asyncio.Task[T] | None = self._reads.get(what)
        if reading is None:
            reading = self._reads[what] = self._start(read())
        await asyncio.wait({reading})
        if error := reading.exception():
            raise copy(error)  # the error itself would keep the frames of each follower that it passed
        return reading.result()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and not self._listening.done():
            self._listening.set_exception(error)

    async def _watch(self) -> None:
        """Begin a look whenever there is news, or may be some that got lost."""
        # Listening begins before reading, so that nothing falls in between.
        async with self._log.follow(self._place.job_id) as facts, self._output.follow(*self._place) as chunks:
            self._listening.set_result(None)
            self.look_again()  # what was stored right before was not heard, and a replica may lack it
            pause = SOON
            while True:
                pause = await self._due(facts, chunks, pause)
                self._begin_look(facts, chunks)
                await asyncio.sleep(GAP)

    async def _due(self, facts: News, chunks: News, pause: float) -> float:
        """Return once another look is due: with the seconds until the one after that, if it is not complete."""
        await any_of(facts, chunks, self._incomplete, within=TICK)
        if not self._incomplete.is_set() or await any_of(facts, chunks, within=pause):
            return SOON
        return min(4 * pause, TICK)

    def _begin_look(self, facts: News, chunks: News) -> None:
        now = asyncio.get_running_loop().time()
        self.look += 1
        if facts.is_set() or not chunks.is_set() or self._incomplete.is_set() or now >= self._facts_due:
            self.facts_look, self._facts_due = self.look, now + TICK
        self._incomplete.clear()
        self._fact.hear(facts.take(), now)
        self.chunk.hear(chunks.take(), now)
        self._reads = {}
        this, self.next_look = self.next_look, asyncio.Event()
        this.set()


class FollowedJobs:
    """The jobs that somebody follows."""

    def __init__(self, log: EventLog, output: OutputLog) -> None:
        self._log = log
        self._output = output
        self._jobs: dict[Place, FollowedJob] = {}

    @asynccontextmanager
    async def follow(self, place: Place) -> AsyncIterator[FollowedJob]:
        """The job, for one more follower."""
        job = self._jobs.get(place)
        if job is None:
            job = self._jobs[place] = FollowedJob(self._log, self._output, place)
        job.followers += 1
        try:
            await job.listening()
            yield job
        finally:
            job.followers -= 1
            if not job.followers:
                del self._jobs[place]
                await job.close()
