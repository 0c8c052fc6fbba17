"""Removes a job's data when it can no longer be read, and its events when they are old."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

from stint.core.errors import NoRoomError
from stint.core.events import Deleted, Ended, Rejected
from stint.ports import Fact, History
from stint.process.waiting import for_each, repeat
from stint_projector.project import Projector, tried

SWEEP_INTERVAL: Final = timedelta(minutes=10)
"""About the time between two sweeps; less if jobs are kept for less than ten times as long."""
TICK: Final = timedelta(seconds=1)
"""The shortest time between two sweeps."""
RETRY_PAUSE: Final = timedelta(seconds=5)
"""The time before work that failed, as with an unavailable server, is repeated."""
CONCURRENCY: Final = 8
"""Jobs that are processed at a time."""


def interval(kept: timedelta, parts: int) -> timedelta:
    """The time between two sweeps for data that is kept for `kept` and may stay longer by one part of `parts`."""
    return min(SWEEP_INTERVAL, max(TICK, kept / parts))


class Janitor:
    """Removes the view, the output and the payload of a job once its end is older than the retention.

    The log has the ends in the order in which they become due. So it is read as far as they are due, and the next one
    says how long to wait. What had become due before this janitor began is the auditor's. Any number may run
    concurrently; each loads a job from the log right before it removes anything.

    At `next_at` the next job becomes due, or may be known to become due.
    """

    def __init__(self, projector: Projector, history: History) -> None:
        """`projector` removes a job's data."""
        self._projector = projector
        # A deleted job has nothing any more, except for what a lost runner may have written since.
        kinds = (Ended.kind, Rejected.kind, Deleted.kind)
        begin = projector.now() - projector.retention
        self._ends = [_Ends(history, kind, since=begin) for kind in kinds]
        self.next_at = projector.now()

    async def run(self) -> None:
        """Work until cancelled, through any outage and failure."""
        now = self._projector.now
        await repeat(self.expire, lambda: max(TICK, self.next_at - now()).total_seconds(), failed="janitor failed")

    async def expire(self) -> None:
        """Remove the data of all jobs whose time has come."""
        retention, now = self._projector.retention, self._projector.now
        clean_up, self.next_at = self._projector.clean_up, now() + RETRY_PAUSE
        next_at = now() + interval(retention, 1)
        for ends in self._ends:
            while due := await ends.until(now() - retention, now()):
                ended = dict.fromkeys(fact.job_id for fact in due)
                await for_each(ended, lambda job_id: tried(clean_up(job_id), job_id), at_once=CONCURRENCY)
                ends.done(due)
            if ends.next:
                next_at = min(next_at, ends.next.time + retention)
        self.next_at = next_at


class _Ends:
    """A position among the events of one kind."""

    def __init__(self, history: History, kind: str, *, since: datetime) -> None:
        self._history = history
        self._kind = kind
        self._since = since
        self._after = 0
        self._latest = since
        self._page: deque[Fact] = deque()
        self._look_at = since

    @property
    def next(self) -> Fact | None:
        """The next event, as far as it has been read."""
        return self._page[0] if self._page else None

    async def until(self, moment: datetime, now: datetime) -> list[Fact]:
        """The next events that are not younger than `moment`, until they are done."""
        if not self._page and now >= self._look_at:
            await self._read()
            if not self._page:  # an event that comes now is as old as that when the time has come
                self._look_at = now + min(SWEEP_INTERVAL, now - moment)
                self._since = now - SWEEP_INTERVAL
        return list(takewhile(lambda fact: fact.time <= moment, self._page))

    async def _read(self) -> None:
        """Read from a time on, so that the server need not search all that is older for an event of this kind.

        An event that is younger than all before, and has one of their sequences, is of another log: it was restored
        from a backup, or made anew.
        """
        facts = await self._history.facts(self._kind, after=0, since=self._since)
        if any(fact.sequence <= self._after and fact.time > self._latest for fact in facts):
            self._after = 0
        if facts and facts[-1].sequence <= self._after:
            facts = await self._history.facts(self._kind, after=self._after, since=self._since)
        self._page.extend(fact for fact in facts if fact.sequence > self._after)

    def done(self, facts: Sequence[Fact]) -> None:
        """Continue after these."""
        self._after, self._since = facts[-1].sequence, facts[-1].time
        self._latest = max(self._latest, *(fact.time for fact in facts))
        for _ in facts:
            self._page.popleft()


@dataclass(eq=False)
class EventJanitor:
    """Removes all events of a job once it is over, in no work queue, and all its events are old.

    Old events that belong to no job are removed too. Any number may run concurrently.
    """

    projector: Projector
    history: History
    keep: timedelta
    _pause: float = RETRY_PAUSE.total_seconds()

    async def run(self) -> None:
        """Work until cancelled, through any outage and failure."""
        await repeat(self.forget, lambda: self._pause, failed="removal of old events failed")

    async def forget(self) -> None:
        """Remove everything that is old enough."""
        self._pause = RETRY_PAUSE.total_seconds()
        before = self.projector.now() - self.keep
        await self.history.forget_unnamed(before)
        async for job_id in self.history.older_than(before):
            await tried(self._forget(job_id, before), job_id, failed="removal of a job's events failed")
        self._pause = interval(self.keep, 100).total_seconds()

    async def _forget(self, job_id: str, before: datetime) -> None:
        job = await self.projector.log.load(job_id)
        if (job is not None and not job.terminal) or await self.history.is_waiting(job_id):
            return
        if job is not None:
            with suppress(NoRoomError):  # the removal of its view needs some, that of its events makes it
                await self.projector.tidy(job)  # its other data could not be found without its events
        await self.history.forget(job_id, before=before)
