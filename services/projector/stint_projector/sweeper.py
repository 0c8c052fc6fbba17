"""Ends jobs that are in no queue and with no runner, and removes jobs that are over from their queues."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog

from stint.core.errors import BrokerUnavailableError
from stint.core.events import Ended
from stint.core.job import Job, State
from stint.core.view import rfc3339
from stint.ports import History, Outcome, Place
from stint.process.waiting import repeat
from stint_projector.janitor import interval
from stint_projector.project import Projector

log = structlog.get_logger()

SWEEPS: Final = 6
"""Sweeps within the time for which a job must be astray before it is ended."""
SHARE: Final = 20
"""A sweep may take one part of this many of the time: with very many jobs there are fewer sweeps."""
STALE: Final = 3
"""Pauses after which the last sweep no longer counts: a stray job may have been in its queue meanwhile."""
MISSING: Final = "No queue and no runner had the job any more."
"""The error of such a job."""


@dataclass(eq=False)
class Sweeper:
    """Ends, as `unknown`, each job that this sweeper has found missing from the work queues for long enough.

    A runner appends the end before its ack, so a job that has not ended is in a work queue. It is missing if its
    message was removed, or acknowledged by a runner that had lost it.

    What has been over for as long is removed from its work queue. Its runner may have acknowledged it and not removed
    it; such a message is not delivered again, and is removed whatever it says. And a WORK that was created anew
    contains all submissions of EVENTS again.

    From its submission to its end a job has a payload, and a message in a work queue. A sweep compares the two, so it
    takes time for jobs that have not ended, and for no others. Jobs without a payload are named by the auditor. A sweep
    also finds payloads of jobs that are over or were never submitted, and removes them. Any number of sweepers may run
    concurrently. The next one is `pause` seconds later.

    `astray_for` must be longer than any runner may take to stop a job whose lease it has lost. It must also be longer
    than a queue must wait for a job that was ended by a process other than its starter.
    """

    projector: Projector
    history: History
    astray_for: timedelta
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.pause = self._least_pause = interval(self.astray_for, SWEEPS).total_seconds()
        self._since: dict[tuple[Place, bool], float] = {}
        self._looked_at = 0.0
        self._suspects: set[Place] = set()

    def suspect(self, place: Place) -> None:
        """Look at this job too: it has not ended, and has no payload by which a sweep would find it."""
        self._suspects.add(place)

    async def run(self) -> None:
        """Run until cancelled, through any outage."""
        await repeat(self.sweep, lambda: self.pause, failed="sweep failed")

    async def sweep(self) -> None:
        """Find stray jobs once, and repair those that have been astray for long enough."""
        for stray in await self._overdue():
            self._since[stray] = self.monotonic()  # even if this fails, the others come first
            place, over = stray
            try:
                await self._repair(place, over=over)
                self._suspects.discard(place)
            except BrokerUnavailableError:
                raise
            except Exception:  # one job must not prevent the others from being repaired
                log.exception("repair of a stray job failed", job=place.job_id)

    async def _overdue(self) -> list[tuple[Place, bool]]:
        begin = self.monotonic()
        strays = await self.history.strays()
        now = self.monotonic()
        stale = now - self._looked_at > STALE * self.pause
        self.pause = max(self._least_pause, SHARE * (now - begin))
        if strays is None:
            return []
        known = {} if stale else self._since
        missing = self._suspects.union(strays.missing)
        seen = [*((place, False) for place in missing), *((place, True) for place in strays.over)]
        self._since = {stray: known.get(stray, now) for stray in seen}
        self._looked_at = now
        return [stray for stray, since in self._since.items() if now - since >= self.astray_for.total_seconds()]

    async def _repair(self, place: Place, *, over: bool) -> None:
        if over:
            await self.history.remove_acknowledged(place.token)
        job = await self.projector.log.load(place.job_id)
        if not over and (job is None or job.token != place.token or job.terminal):
            await self.projector.clean_up_place(place)
            if job and job.token != place.token:  # its view may be that of a submission to this queue
                await self.projector.rebuild(place.job_id)
            return
        if job is None or job.token != place.token or job.terminal != over:
            return
        if await self.history.is_in_work(place) != over:
            return
        if over:
            await self.history.take_from_work(place)
            log.info("removed a job that is over from its queue", job=job.job_id)
        else:
            await self._end(job)

    async def _end(self, job: Job) -> None:
        # A queued job may be ended only if no runner has started it meanwhile; a started one in any case.
        unstarted = job.state is State.QUEUED
        after = job.sequence if unstarted else None
        event = Ended(
            event_id=uuid4().hex,
            at=rfc3339(self.projector.now()),
            by="projector",
            status=State.UNKNOWN,
            reason="lost",
            error=MISSING,
            output_complete=unstarted,
        )
        if await self.projector.log.append(job.token, job.job_id, event, after=after) is Outcome.WON:
            log.warning("job lost", job=job.job_id, status=job.state, runner=job.runner)
