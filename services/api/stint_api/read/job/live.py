"""A job's events and output: all so far, then as they come, without gap or repeat."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import structlog

from stint.core.errors import BrokerUnavailableError
from stint.core.events import AnyEvent, Ended, Launched, Record, Started, Submitted
from stint.core.job import Job, State, evolve
from stint.core.output.chain import Chain, Chunk
from stint.core.phase import JobPhase
from stint.ports import OutputLog, Place
from stint.process.waiting import any_of
from stint_api.read.job.followed import TICK, FollowedJob, FollowedJobs
from stint_api.read.job.lines import Position
from stint_api.read.job.output import SETTLE_PAUSE, SETTLE_TRIES, seen_back
from stint_api.read.phases import Phases
from stint_api.web import streaming

log = structlog.get_logger()


class LiveJob:
    """One client's stream of one job. All that it tells is read from the streams; live messages say when to look."""

    def __init__(
        self,
        jobs: FollowedJobs,
        output: OutputLog,
        phases: Phases,
        job: Job,
        position: Position,
        *,
        render: Callable[[Job, Chain, str | None], Mapping[str, Any]],
    ) -> None:
        """`render` gives the job's view for the final event: of the job, the output that was told, and `back_since`."""
        self._jobs = jobs
        self._output = output
        self._phases = phases
        self._phase: JobPhase | None = None
        self._job = job
        self._place = Place(job.token, job.job_id)
        self._render = render
        self._fact, self._sequence = position.fact, position.output
        self._chain = Chain(chunks=position.number)
        self._read_to = position.output
        self._loaded_at = 0
        self._end: Mapping[str, Any] | None = None

    async def events(self, closing: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Encoded events, up to `end`; without one if `closing` is set before."""
        with self._phases.watch(self._place) as new_phase:
            async with self._jobs.follow(self._place) as followed:
                while not closing.is_set():
                    next_look = followed.next_look
                    new_phase.clear()
                    told = False
                    async for item in self._catch_up(followed):
                        told = True
                        yield item
                    if self._end:
                        yield self._event("end", self._end)
                        return
                    if phase := self._new_phase():
                        yield self._event("phase", msgspec.to_builtins(phase))
                    if not told:
                        yield streaming.PING
                    await any_of(next_look, new_phase, closing, within=2 * TICK)

    async def _catch_up(self, followed: FollowedJob) -> AsyncIterator[bytes]:
        """All that is new in the log and the output. While NATS is unavailable there is nothing new."""
        try:
            await self._reload(followed)
            for item in self._new_facts(ended=False):
                yield item
            async for chunk in self._new_chunks(followed):
                yield self._chunk(chunk)
            if self._job.terminal:
                self._end = self._render(self._job, self._chain, await seen_back(self._output, self._job))
        except BrokerUnavailableError as error:
            log.debug("the live stream waits for NATS", job=self._job.job_id, error=error.sentence)
            followed.look_again()
            return
        for item in self._new_facts(ended=True):
            yield item

    def _new_phase(self) -> JobPhase | None:
        """What is done for the job now, if the client does not know it."""
        phase = self._phases.of(self._place)
        if phase == self._phase or self._job.state is not State.RUNNING:
            return None
        self._phase = phase
        return phase

    async def _reload(self, followed: FollowedJob) -> None:
        look = followed.look
        if self._loaded_at >= followed.facts_look:
            return
        loaded = await followed.load()
        if loaded is not None and loaded.sequence >= self._job.sequence:
            self._job = loaded
        self._loaded_at = look

    async def _new_chunks(self, followed: FollowedJob) -> AsyncIterator[Chunk]:
        """What is new in the output: nothing before a runner has claimed the job, or after all that its end names."""
        behind = self._read_to < followed.chunk.sequence
        if self._job.state is not State.QUEUED and (behind or not self._is_whole()):
            async for chunk in self._new(followed.chunks(self._read_to)):
                yield chunk
        if self._read_to < followed.chunk.sequence:
            followed.look_again()
        if self._job.terminal and not self._is_whole():
            async for chunk in self._last_chunks():
                yield chunk

    async def _last_chunks(self) -> AsyncIterator[Chunk]:
        """The rest of the output of a job that has ended, up to what the stream's leader has."""
        for _ in range(SETTLE_TRIES):
            last = await self._output.last(*self._place)
            if last is None or last.sequence <= self._read_to:
                if last is not None and last.sequence == self._sequence:
                    self._chain = Chain.through(last)  # of which a resumed stream knew the number alone
                return
            await asyncio.sleep(SETTLE_PAUSE)
            async for chunk in self._new(self._output.read(*self._place, after=self._read_to)):
                yield chunk
        raise BrokerUnavailableError("A replica of NATS lags behind.")

    def _is_whole(self) -> bool:
        ended = self._job.fact(Ended)
        return ended is not None and ended.output_complete and self._chain == Chain.recorded(ended)

    async def _new(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        """Those that continue the chain. Others were written by a stranger, and are left out."""
        async for chunk in chunks:
            self._read_to = chunk.sequence
            if self._continues(chunk):
                yield chunk
            else:
                log.debug("a chunk of output does not continue the chain", job=self._job.job_id)

    def _continues(self, chunk: Chunk) -> bool:
        if self._chain.chunks and not self._chain.digest:
            # The stream was resumed: the position has only the last chunk's number.
            return chunk.number == self._chain.chunks + 1
        return Chain.through(chunk) == self._chain.add(chunk.data)

    def _new_facts(self, *, ended: bool) -> Iterator[bytes]:
        """The end comes after the last output."""
        job: Job | None = None
        for record in self._job.facts.values():
            job = evolve(job, record)
            if job is None or (job.terminal and not ended):
                return
            if record.sequence > self._fact:
                self._fact = record.sequence
                yield self._event("fact", fact(record, job.state))

    def _chunk(self, chunk: Chunk) -> bytes:
        self._sequence, self._chain = chunk.sequence, Chain.through(chunk)
        data = base64.b64encode(chunk.data).decode()
        told = {"number": chunk.number, "offset": chunk.offset, "stream": chunk.stream, "data": data}
        return self._event("output", told | {"at": chunk.time, "line": chunk.line, "continues": chunk.continues})

    def _event(self, name: str, data: Mapping[str, Any]) -> bytes:
        position = Position(self._fact, self._sequence, self._chain.chunks)
        return streaming.event(name, data, event_id=str(position))


_UNREADABLE: Final[Mapping[str, AnyEvent]] = {
    Submitted.kind: Submitted(event_id="", at="", qname="", ticket="", payload_chunks=0, payload_bytes=0),
    Started.kind: Started(event_id="", at="", runner=""),
    Launched.kind: Launched(event_id="", at="", container_id="", container_image=""),
    Ended.kind: Ended(event_id="", at="", status="", reason="internal"),
}
"""What is told of an event that cannot be read: its subject says that it happened, and clients expect its fields."""


def fact(record: Record, state: State) -> dict[str, Any]:
    """An event as clients see it: when it was stored, the job's status then, and some of its own fields."""
    event = record.event or _UNREADABLE.get(record.kind)
    own: dict[str, Any] = {}
    match event:
        case Submitted():
            own = {"payload_kept": bool(event.payload_digest)}
        case Started():
            own = {"runner": event.runner}
        case Launched():
            own = {"container_id": event.container_id, "container_image": event.container_image}
        case Ended():
            own = {
                "reason": event.reason,
                "error": event.error,
                "return_code": event.return_code,
                # By which a client can tell whether the output that it was given is whole.
                "output_chunks": event.chunks,
                "output_bytes": event.output_bytes,
                "output_digest": event.output_digest,
                "output_complete": event.output_complete,
            }
    return {
        "kind": record.kind,
        "at": record.time,
        "sequence": record.sequence,
        "status": state.value,
        "by": event.by if event else "",
        "by_entity": event.by_entity if event else "",
        "by_accessor": event.by_accessor if event else "",
        **own,
    }
