"""All views in memory, newest first, kept up to date by following the bucket."""

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Final, NamedTuple

import structlog

from stint.core.errors import BrokerUnavailableError, StintError, UndecodableError
from stint.core.job import TERMINAL, State
from stint.core.view import NEVER, JobView, parse_time, read_view
from stint.ports import StoredView, ViewStore

log = structlog.get_logger()

RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts to follow the bucket."""

SLICE: Final = 500
"""Jobs that are looked at before other requests have their turn: about 0.7 ms."""

_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many jobs there are.

    Attributes:
        by_status: jobs that can be seen.
        queues: those with jobs that are not over.
        held: jobs whose queue waits for a lost runner or a release.
        unreadable: views that cannot be read, and are left out everywhere.
    """

    by_status: Mapping[State, int]
    queues: int
    held: int
    unreadable: int


class _Entry(NamedTuple):
    rank: float
    expires: datetime
    job: JobView


class _Views:
    """Views by job, their order, the last submitted first, and their counts, which are kept and not computed anew."""

    def __init__(self, retention: timedelta) -> None:
        self._retention = retention
        self._by_job: dict[str, _Entry] = {}
        self._order: list[tuple[float, str]] = []
        self._expiring: list[tuple[datetime, str]] = []
        self._by_status: Counter[State] = Counter()
        self._unended: Counter[str] = Counter()
        self._held = 0
        self._unreadable: set[str] = set()

    def apply(self, stored: StoredView) -> None:
        """Apply a change. A view that cannot be read is left out, and so is the one before it."""
        self._remove(stored.job_id)
        self._unreadable.discard(stored.job_id)
        if stored.value is None:
            return
        try:
            self._put(read_view(stored.job_id, stored.value))
        except UndecodableError as error:
            self._unreadable.add(stored.job_id)
            log.warning("view cannot be read, left out", job=stored.job_id, error=error.sentence)

    def expire(self, now: datetime) -> None:
        """Forget what nobody may see any more."""
        while self._expiring and self._expiring[0][0] <= now:
            expires, job_id = heappop(self._expiring)
            known = self._by_job.get(job_id)
            if known is not None and known.expires == expires:
                self._remove(job_id)

    def counts(self) -> Counts:
        """As they stand now."""
        return Counts(
            by_status=self._by_status.copy(),
            queues=len(self._unended),
            held=self._held,
            unreadable=len(self._unreadable),
        )

    def __iter__(self) -> Iterator[JobView]:
        """As they stand now: a later change is not seen, but what was removed since is left out."""
        found = (self._by_job.get(job_id) for _, job_id in self._order.copy())
        return (entry.job for entry in found if entry is not None)

    def _put(self, job: JobView) -> None:
        entry = _Entry(-submitted_at(job).timestamp(), expires_at(job, self._retention), job)
        self._by_job[job.job_id] = entry
        insort(self._order, (entry.rank, job.job_id))
        if entry.expires != _LAST:
            heappush(self._expiring, (entry.expires, job.job_id))
        self._count(job, 1)

    def _remove(self, job_id: str) -> None:
        known = self._by_job.pop(job_id, None)
        if known is not None:
            del self._order[bisect_left(self._order, (known.rank, job_id))]
            self._count(known.job, -1)

    def _count(self, job: JobView, by: int) -> None:
        self._by_status[job.status] += by
        self._held += by * job.held
        if job.status not in TERMINAL:
            self._unended[job.qname] += by
            if not self._unended[job.qname]:
                del self._unended[job.qname]


class ListIndex:
    """What the list and the counts are made from; at most about a second old while NATS answers.

    While NATS is unavailable it does not change. Until the bucket was read to its end for the first time, `jobs` and
    `counts` raise BrokerUnavailableError.

    Attributes:
        ready: set while it is kept up to date.
    """

    def __init__(
        self,
        views: ViewStore,
        *,
        connected: Callable[[], Awaitable[None]],
        retention: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        """`connected` returns once NATS is there; ended jobs are shown for `retention`."""
        self._store = views
        self._connected = connected
        self._retention = retention
        self._now = now
        self._views: _Views | None = None
        self.ready = asyncio.Event()

    async def jobs(self, wants: Callable[[JobView], bool]) -> list[JobView]:
        """The jobs that can be seen and are wanted, the last submitted first."""
        found = list[JobView]()
        for number, job in enumerate(self._current()):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if wants(job):
                found.append(job)
        return found

    def counts(self) -> Counts:
        """How many jobs can be seen. Takes the same time however many there are."""
        return self._current().counts()

    def _current(self) -> _Views:
        if self._views is None:
            raise BrokerUnavailableError("The list of jobs is not complete yet: NATS has not answered.")
        self._views.expire(self._now())
        return self._views

    async def run(self) -> None:
        """Follow the bucket for ever."""
        self.ready.clear()
        while True:
            await self._connected()
            try:
                await self._follow()
            except BrokerUnavailableError as error:
                log.debug("following the views again", error=error.sentence)
            except StintError as error:
                log.warning("the views cannot be followed, retrying", error=error.sentence)
            else:
                continue
            self.ready.clear()
            await asyncio.sleep(RETRY_PAUSE)

    async def _follow(self) -> None:
        """The views so far stay in use until all that there is now has been read."""
        fresh = _Views(self._retention)
        async with self._store.follow() as changes:
            async for stored in changes:
                if stored is None:
                    self._views = fresh
                    self.ready.set()
                else:
                    fresh.apply(stored)


def submitted_at(job: JobView) -> datetime:
    """When it was submitted, by the stream's time."""
    return parse_time(job.submitted)


def expires_at(job: JobView, retention: timedelta) -> datetime:
    """From when on nobody sees it any more."""
    if job.ended == NEVER:
        return _LAST
    ended = parse_time(job.ended)
    return ended + retention if ended < _LAST - retention else _LAST
