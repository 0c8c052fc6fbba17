"""Removes views, output and payloads that nobody can read any more or that belong to no job, and old events."""

import asyncio
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError
from stint.core.subjects import BAD_QUEUE_TOKEN
from stint.core.view import parse_time
from stint.ports import History, Place
from stint.process.waiting import for_each
from stint_projector.project import Projector

log = structlog.get_logger()

SWEEP_INTERVAL: Final = timedelta(minutes=10)
"""About the time between two sweeps; less if jobs are kept for less than ten times as long."""
TICK: Final = timedelta(seconds=1)
"""The shortest time between two sweeps."""
RETRY_PAUSE: Final = timedelta(seconds=5)
"""The time before a request to an unavailable server is repeated."""
ORPHAN_AGE: Final = timedelta(hours=1)
"""How long a payload may be without a job: it is stored before its job is submitted."""
CONCURRENCY: Final = 8
"""Jobs that are processed at a time."""


def interval(kept: timedelta, parts: int) -> timedelta:
    """The time between two sweeps for data that is kept for `kept` and may stay longer by one part of `parts`."""
    return min(SWEEP_INTERVAL, max(TICK, kept / parts))


class Janitor:
    """Removes a job's data at the time that the projector's agenda says, and sweeps for data that is not on the agenda.

    Any number may run concurrently. It checks the log right before it removes anything.

    Views are swept too, although they are deleted or expire: a NATS server that was killed can bring an old one back.
    The server records only every two minutes that a message was superseded, and otherwise infers it from the newer
    message; if that one has expired, the old one is the newest again.
    """

    def __init__(self, projector: Projector, history: History) -> None:
        """`projector` removes a job's data, and fills its agenda."""
        self._projector = projector
        self._history = history

    async def run(self) -> None:
        """Work until cancelled, through any outage."""
        now = self._projector.now
        sweep_at = now()
        while True:
            try:
                if now() >= sweep_at:
                    await self.sweep()
                    jitter = random.uniform(0.8, 1.2)  # noqa: S311 - not for secrets
                    sweep_at = now() + interval(self._projector.retention, 10) * jitter
                await self.expire()
            except BrokerUnavailableError:
                sweep_at = now() + RETRY_PAUSE  # what was not done is found again
            except Exception:  # a failure here must not stop the view
                log.exception("janitor failed, retrying later")
                sweep_at = now() + SWEEP_INTERVAL
            await asyncio.sleep(TICK.total_seconds())
            await self._projector.agenda.wait(sweep_at)

    async def expire(self) -> None:
        """Remove the data of all jobs whose time has come."""
        await self._clean_up_all(self._projector.agenda.take_due())

    async def sweep(self) -> None:
        """Find what is stored for jobs that are over, expired, deleted or unknown, and put the others on the agenda."""
        agenda, now, retention = self._projector.agenda, self._projector.now(), self._projector.retention
        views = await self._projector.views.job_ids()
        submitted = await self._history.submitted()  # in this order: a job is submitted before there is a view of it
        shown = {place for place in submitted if place.job_id in views}
        with_output, with_payload = await self._projector.output.places(), set(await self._projector.payloads.places())
        unknown = with_payload.union(place for place in shown.union(with_output) if place not in agenda)
        oldest_first = sorted(unknown, key=lambda place: place.job_id)  # the log is read in its own order
        ends = await self._history.survey(oldest_first)
        suspects: list[Place] = []
        for place in oldest_first:
            end = ends.get(place)
            if end == "":
                continue  # the job has not ended
            if end and place not in with_payload and (expires := parse_time(end) + retention) > now:
                agenda.put(place, expires)
            else:
                suspects.append(place)
        unsubmitted = set(views).difference(place.job_id for place in submitted)
        await self._clean_up_all([*suspects, *(Place(BAD_QUEUE_TOKEN, job_id) for job_id in unsubmitted)])

    async def _clean_up_all(self, places: Iterable[Place]) -> None:
        await for_each(places, self._try_to_clean_up, at_once=CONCURRENCY)

    async def _try_to_clean_up(self, place: Place) -> None:
        try:
            await self._clean_up(place)
        except BrokerUnavailableError:
            raise
        except Exception:  # one job must not prevent the removal of others; the next sweep finds it again
            log.exception("clean-up failed", job=place.job_id)

    async def _clean_up(self, place: Place) -> None:
        job = await self._projector.log.load(place.job_id)
        if job is None:
            await self._projector.remove_view(place.job_id)
        if job is not None and job.token == place.token:
            await self._projector.tidy(job)
        else:
            await self._remove_orphan(place)

    async def _remove_orphan(self, place: Place) -> None:
        """Remove what is stored for a job that does not exist. Output is written only after a job has started."""
        await self._projector.output.purge(*place)
        newest = await self._projector.payloads.newest(*place)
        if newest is not None and newest.time + ORPHAN_AGE <= self._projector.now():
            await self._projector.payloads.purge(*place, through=newest.sequence)
            log.info("payload without a job removed", job=place.job_id)


class EventJanitor:
    """Removes all events of a job once it is over, in no work queue, and all its events are old.

    Old events that belong to no job are removed too. Any number may run concurrently.
    """

    def __init__(self, projector: Projector, history: History, keep: timedelta) -> None:
        """`keep` is how long events are kept."""
        self._projector = projector
        self._history = history
        self._keep = keep

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
        await self._history.forget_barriers()
        before = self._projector.now() - self._keep
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
        job = await self._projector.log.load(job_id)
        if job is not None and not job.terminal:
            return
        if job is not None:
            await self._projector.tidy(job)  # its other data could not be found without its events
        await self._history.forget(job_id, before=before)
