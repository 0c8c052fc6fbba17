"""All views in memory, newest first, kept up to date by following the bucket."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from stint.codec import decode
from stint.errors import BrokerUnavailableError, StintError, UndecodableError
from stint.eventlog import StoredView, ViewStore
from stint.view import NEVER, JobView, parse_time

log = structlog.get_logger()

RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts to follow the bucket."""

_LAST: Final = datetime.max.replace(tzinfo=UTC)


class _Views:
    """Views by job, and their order: the last submitted first."""

    def __init__(self) -> None:
        self._by_job: dict[str, tuple[float, JobView]] = {}
        self._order: list[tuple[float, str]] = []

    def put(self, job: JobView) -> None:
        self.remove(job.job_id)
        rank = -submitted_at(job).timestamp()
        self._by_job[job.job_id] = (rank, job)
        insort(self._order, (rank, job.job_id))

    def remove(self, job_id: str) -> None:
        known = self._by_job.pop(job_id, None)
        if known is not None:
            del self._order[bisect_left(self._order, (known[0], job_id))]

    def __iter__(self) -> Iterator[JobView]:
        return (self._by_job[job_id][1] for _, job_id in self._order)


class ListIndex:
    """What the list and the counts are made from; at most about a second old while NATS answers.

    While NATS is away it stands still. It is never empty merely because it is not ready: then it raises.
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

    def jobs(self) -> Iterator[JobView]:
        """The jobs that can be seen, the last submitted first.

        Raises:
            BrokerUnavailableError: the bucket was never read to its end yet.
        """
        if self._views is None:
            raise BrokerUnavailableError("The list of jobs is not complete yet: NATS has not answered.")
        now = self._now()
        return (job for job in self._views if now < expires_at(job, self._retention))

    async def run(self) -> None:
        """Follow the bucket for ever."""
        while True:
            await self._connected()
            try:
                await self._follow()
            except StintError as error:
                log.debug("following the views again", error=error.sentence)
            await asyncio.sleep(RETRY_PAUSE)

    async def _follow(self) -> None:
        """The views so far stay in use until all that there is now has been read."""
        fresh = _Views()
        async with self._store.follow() as changes:
            async for stored in changes:
                if stored is None:
                    self._views = fresh
                    self.ready.set()
                else:
                    _apply(fresh, stored)


def _apply(views: _Views, stored: StoredView) -> None:
    if stored.value is None:
        views.remove(stored.job_id)
        return
    try:
        views.put(decode(stored.value, JobView))
    except (UndecodableError, ValueError) as error:
        log.warning("a view cannot be read", job=stored.job_id, error=type(error).__name__)


def submitted_at(job: JobView) -> datetime:
    """When it was submitted, by the stream's time."""
    return parse_time(job.submitted)


def expires_at(job: JobView, retention: timedelta) -> datetime:
    """From when on nobody sees it any more."""
    return _LAST if job.ended == NEVER else parse_time(job.ended) + retention
