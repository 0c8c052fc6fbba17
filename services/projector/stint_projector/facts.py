"""Removes the events of jobs that ended long ago."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from stint.core.errors import BrokerUnavailableError
from stint.ports import EventLog, History
from stint_projector.janitor import RETRY_PAUSE, SWEEP_INTERVAL, interval
from stint_projector.project import Projector

log = structlog.get_logger()


class FactJanitor:
    """Removes all events of a job once it is over, in no work queue, and all its events are old.

    Old events that belong to no job are removed too. Any number may run concurrently.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        history: History,
        projector: Projector,
        keep: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`keep` is how long events are kept."""
        self._log = log
        self._history = history
        self._projector = projector
        self._keep = keep
        self._now = now

    async def run(self) -> None:
        """Run until cancelled, through any outage."""
        while True:
            pause = interval(self._keep, 100)
            try:
                await self.forget()
            except BrokerUnavailableError:
                pause = RETRY_PAUSE
            except Exception:  # a failure here must not stop the view
                log.exception("removal of old events failed")
                pause = SWEEP_INTERVAL
            await asyncio.sleep(pause.total_seconds())

    async def forget(self) -> None:
        """Remove everything that is old enough."""
        before = self._now() - self._keep
        waiting = None
        async for job_id in self._history.older_than(before):
            waiting = await self._history.in_work() if waiting is None else waiting
            if job_id in waiting:
                continue
            try:
                await self._forget(job_id, before)
            except BrokerUnavailableError:
                raise
            except Exception:  # one job must not prevent the removal of others; the next round finds it again
                log.exception("removal of a job's events failed", job=job_id)

    async def _forget(self, job_id: str, before: datetime) -> None:
        job = await self._log.load(job_id)
        if job is not None:
            if not job.terminal:
                return
            await self._projector.tidy(job)  # without its events nobody would know to whom the rest belongs
        await self._history.forget(job_id, before=before)
