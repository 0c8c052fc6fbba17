"""Compares everything that is stored with the log, in small steps."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from stint.core.events import Ended, Rejected, Submitted
from stint.core.names.ids import is_job_id
from stint.core.view import parse_time
from stint.ports import History, Place, StoredView, StreamState
from stint.process.waiting import for_each, repeat
from stint_projector.janitor import CONCURRENCY, RETRY_PAUSE
from stint_projector.project import Projector, tried

REST: Final = 4
"""Pauses between two steps, in lengths of a step: an audit takes a fifth of the time."""
ROUND: Final = 10.0
"""Seconds between two steps once everything was compared. Those over the views continue for ever."""
STEP: Final = 1000
"""Places per step."""
EVER: Final = datetime.fromtimestamp(0, UTC)

T = TypeVar("T")


@dataclass(eq=False)
class Auditor:
    """Removes views, output and payloads of jobs that are over, expired, deleted or unknown, and writes missing views.

    The projector and the janitor remove them in time. The auditor finds what nobody saw: what became due while no
    projector ran, what belongs to no job, views that came back, and views whose bucket was deleted or purged. A NATS
    server that was killed can bring back old views: it records only every two minutes that a message was superseded,
    and otherwise infers it from the newer message; if that one has expired, the old one is the newest again. So
    everything is compared at the start, after each outage, and when views were lost. It needs little memory, whatever
    is stored, but for the ids of all views when these are written again. Any number may run concurrently. `suspect`
    gets each job that has not ended and has no payload.
    """

    projector: Projector
    history: History
    suspect: Callable[[Place], None]
    _bucket: StreamState | None = field(default=None, init=False)
    _lost: bool = field(default=False, init=False)  # until the views are written again

    async def run(self) -> None:
        """Compare everything once, and then the views until cancelled, through any outage and failure."""
        await repeat(self._audit, RETRY_PAUSE.total_seconds, failed="audit failed")

    async def _audit(self) -> None:
        """Until views were lost."""
        await self._look()
        await self.sweep(rest=REST)
        while not await self._look():
            await asyncio.sleep(ROUND)  # there may be no view, and so no step
            await self._sweep_views(pause=ROUND)

    async def _look(self) -> bool:
        """Whether views were lost: the bucket is another one than before, has lost all that it had, or is too young."""
        before, now = self._bucket, await self.projector.views.state()
        if not before:
            first = await self.history.facts(Submitted.kind, after=0, since=EVER)
            self._lost |= bool(first) and first[0].time < parse_time(now.created)
        elif before.created != now.created or before.first <= before.last < now.first:
            self._lost = True
        self._bucket = now
        return self._lost

    async def sweep(self, *, rest: float = 0) -> None:
        """Compare everything once. After each step, rest for that many times as long as it took."""
        await self._sweep_views(rest=rest)
        found, before = await self._sweep_output(rest), math.inf
        while 0 < found < before:  # what was removed may have hidden others from the list
            found, before = await self._sweep_output(rest), found
        stored = await self.projector.payloads.places()
        await self._sweep_places(_slices(stored), lambda end: end == "", rest)  # needed until the job's end
        if self._lost:
            await self._write_views(rest)
            self._lost = False

    async def _write_views(self, rest: float) -> None:
        """Write those that the log says are missing."""
        shown = set(await self.projector.views.job_ids())
        async for job_ids in _timed(self._have_views(), rest=rest):
            ends = await self.history.survey(job_ids - shown)
            missing = {place.job_id for place, end in ends.items() if self._can_be_read(end)}
            await for_each(missing, lambda job_id: tried(self.projector.project(job_id), job_id), at_once=CONCURRENCY)

    async def _have_views(self) -> AsyncIterator[set[str]]:
        """The jobs that can be read, and some others: those that wait or run have a payload, the rest ended lately."""
        async for places in _slices(await self.projector.payloads.places()):
            yield {place.job_id for place in places}
        since = self.projector.now() - self.projector.retention
        for kind in (Ended.kind, Rejected.kind):
            after = 0
            while facts := await self.history.facts(kind, after=after, since=since):
                yield {fact.job_id for fact in facts}
                after = facts[-1].sequence

    async def _sweep_views(self, *, rest: float = 0, pause: float = 0) -> None:
        async for views in _timed(self._view_pages(), rest=rest, pause=pause):
            await self._check_views([stored.job_id for stored in views if stored.value is not None])

    async def _view_pages(self) -> AsyncIterator[Sequence[StoredView]]:
        after = 0
        while views := await self.projector.views.page(after=after):
            yield views
            after = views[-1].revision

    async def _sweep_output(self, rest: float) -> int:
        return await self._sweep_places(_parts(self.projector.output.places()), self._can_be_read, rest)

    async def _sweep_places(
        self, parts: AsyncIterator[list[Place]], is_needed: Callable[[str | None], bool], rest: float
    ) -> int:
        """Remove what is stored for jobs with an end that makes it unneeded. Returns for how many."""
        clean_up, found = self.projector.clean_up_place, 0
        async for places in _timed(parts, rest=rest):
            ends = await self.history.survey({place.job_id for place in places})
            unneeded = [place for place in places if not is_needed(ends.get(place))]
            await for_each(unneeded, lambda place: tried(clean_up(place), place.job_id), at_once=CONCURRENCY)
            found += len(unneeded)
        return found

    async def _check_views(self, keys: Collection[str]) -> None:
        ids = {key for key in keys if is_job_id(key) and key == key.lower()}
        for key in set(keys) - ids:
            await self.projector.views.delete(key)
        ends = await self.history.survey(ids)
        shown = {place.job_id for place, end in ends.items() if self._can_be_read(end)}
        waiting = [place for place, end in ends.items() if end == ""]
        await for_each(waiting, self._check_payload, at_once=CONCURRENCY)
        await for_each(ids - shown, lambda job_id: tried(self.projector.clean_up(job_id), job_id), at_once=CONCURRENCY)

    async def _check_payload(self, place: Place) -> None:
        if await self.projector.payloads.newest(*place) is None:
            self.suspect(place)

    def _can_be_read(self, end: str | None) -> bool:
        """Whether a job with this end can be read: "" if it has not ended, None if there is no such job."""
        if not end:
            return end is not None
        return parse_time(end) + self.projector.retention > self.projector.now()


async def _timed(steps: AsyncIterator[T], *, rest: float, pause: float = 0) -> AsyncIterator[T]:
    """The same steps. Behind each there is a rest of so many times its length, and a pause of so many seconds."""
    begin = time.monotonic()
    async for step in steps:
        yield step
        await asyncio.sleep(rest * (time.monotonic() - begin) + pause)
        begin = time.monotonic()


async def _parts(pages: AsyncIterator[Collection[Place]]) -> AsyncIterator[list[Place]]:
    async for page in pages:
        async for part in _slices(page):
            yield part


async def _slices(places: Iterable[Place]) -> AsyncIterator[list[Place]]:
    ordered = sorted(places, key=lambda place: place.job_id)  # the log is read in its own order
    for start in range(0, len(ordered), STEP):
        yield ordered[start : start + STEP]
