"""Writes the view of a job from its events, and removes the data of ended and deleted jobs."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError, NoRoomError, StreamMissingError, UndecodableError
from stint.core.job import Job, State
from stint.core.view import JobView, expiry, read_view, view
from stint.ports import EventLog, OutputLog, PayloadStore, Place, StoredView, ViewPut, ViewStore
from stint.process.waiting import for_each

log = structlog.get_logger()

CONCURRENCY: Final = 16
"""Jobs that are loaded, projected or removed at a time."""
ORPHAN_AGE: Final = timedelta(hours=1)
"""How long a payload may be without a job: it is stored before its job is submitted."""


class Projected(NamedTuple):
    """A job, and the revision of its view; 0 if it has none."""

    job: Job
    revision: int


@dataclass(kw_only=True)
class Projector:
    """Computes the view from the log alone. Any number may run concurrently, and any event may be delivered twice."""

    log: EventLog
    views: ViewStore
    payloads: PayloadStore
    output: OutputLog
    retention: timedelta
    now: Callable[[], datetime]

    async def project(self, job_id: str, *, at_least: int = 0) -> Projected | None:
        """Update a view from the log, which has this event `at_least`. None if there is no view, or a newer one."""
        job = await self.log.load(job_id, at_least=at_least)
        if job is None:
            return None
        revision = 0 if self._is_over(job) else await self._write(job)
        if job.state is State.DELETED:  # leave a trace, whether there is a view or not: nobody may make one now
            await self.views.delete(job_id)
        await self.tidy(job)
        return Projected(job, revision) if revision else None

    async def project_all(self, changed: Sequence[Projected]) -> Sequence[Projected] | None:
        """Write the views of these jobs; returns the jobs that have a view, with its new revision.

        None if one of the views is no longer at the revision that is given with its job. Then some may be written.
        """
        shown = [known for known in changed if not self._is_over(known.job)]
        revisions = await self.views.put_all([self._put(*known) for known in shown])
        if len(revisions) < len(shown):
            return None
        terminal = [known.job for known in changed if known.job.terminal]
        await self.payloads.purge_all([Place(job.token, job.job_id) for job in terminal])
        # Nothing is removed unless the log says so.
        gone = (known.job for known in changed if self._is_over(known.job))
        await for_each(gone, lambda job: self.project(job.job_id, at_least=job.sequence), at_once=CONCURRENCY)
        return [Projected(known.job, revision) for known, revision in zip(shown, revisions, strict=True)]

    async def rebuild(self, job_id: str) -> None:
        """Replace the view by what the log says, whatever its content. Others may write it meanwhile."""
        while True:
            stored = await self.views.get(job_id)
            # Loaded after the view was read, and not older: of two concurrent writers the later one tries again. Where
            # it was removed, the leader is asked: a replica that lags would bring it back, and nobody remove it soon.
            least = shown.sequence if (shown := _shown(stored)) else 0
            removed = stored is not None and stored.value is None
            job = await self.log.load(job_id, at_least=sys.maxsize if removed else least)
            if job is None:
                await self._remove_view(job_id)
                return
            if self._is_over(job) or (await self.views.put_all([self._put(job, stored.revision if stored else 0)])):
                await self.tidy(job)
                return

    async def tidy(self, job: Job) -> None:
        """Remove what is no longer needed of a job; nothing if the job has not ended. Safe to repeat."""
        if job.terminal:
            await self.payloads.purge(job.token, job.job_id)
        if self._is_over(job):
            await self.output.purge(job.token, job.job_id)  # first: to remove a view takes room, which NATS may lack
            await self._remove_view(job.job_id)

    async def clean_up(self, job_id: str) -> None:
        """Remove what is no longer needed of a job, or the view of a job that does not exist."""
        job = await self.log.load(job_id)
        if job is None:
            await self._remove_view(job_id)
        else:
            await self.tidy(job)

    async def clean_up_place(self, place: Place) -> None:
        """The same for what is stored at a place, which need not be that of a job."""
        job = await self.log.load(place.job_id)
        if job is not None and job.token == place.token:
            await self.tidy(job)
        else:
            await self._remove_orphan(place)

    async def _remove_orphan(self, place: Place) -> None:
        """Remove what is stored for a job that does not exist. Output is written only after a job has started."""
        await self.output.purge(*place)
        newest = await self.payloads.newest(*place)
        if newest is not None and newest.time + ORPHAN_AGE <= self.now():
            await self.payloads.purge(*place, through=newest.sequence)
            log.info("payload without a job removed", job=place.job_id)

    def _is_over(self, job: Job) -> bool:
        expires = expiry(job, self.retention)
        return job.state is State.DELETED or (expires is not None and expires <= self.now())

    async def _write(self, job: Job) -> int:
        """Write the view if the stored one is older; returns the revision of the one that shows this very job, or 0.

        One that has left a trace is written again only if the log has its job now: it may have been that of a job in
        another log, which was lost.
        """
        while True:
            stored = await self.views.get(job.job_id)
            if stored is not None and stored.value is None:
                await self.rebuild(job.job_id)
                return 0
            shown = _shown(stored)
            if stored is not None and shown is None:
                log.warning("view is unreadable, replacing it", job=job.job_id)
            # Of a job that was submitted to two queues, the first counts; and none that only a lost log had.
            if stored and shown and _same_submission(shown, view(job)) and shown.sequence >= job.sequence:
                return stored.revision if shown.sequence == job.sequence else 0
            put = self._put(job, stored.revision if stored else 0)
            if revisions := await self.views.put_all([put]):
                return revisions[0]

    def _put(self, job: Job, revision: int) -> ViewPut:
        expires = expiry(job, self.retention)
        left = (expires - self.now()).total_seconds() if expires else None
        return ViewPut(job.job_id, encode(view(job)), revision, left)

    async def _remove_view(self, job_id: str) -> None:
        stored = await self.views.get(job_id)
        if stored is not None and stored.value is not None:
            await self.views.delete(job_id)


async def tried(removal: Awaitable[object], job_id: str, *, failed: str = "clean-up failed") -> None:
    """Await a removal. One that fails is logged and tried again later: it must not prevent those of other jobs.

    Raises BrokerUnavailableError and StreamMissingError, because the others would fail too.
    """
    try:
        await removal
    except NoRoomError as error:  # those of other jobs may make some
        log.debug(failed, job=job_id, error=error.sentence)
    except (BrokerUnavailableError, StreamMissingError):
        raise
    except Exception:
        log.exception(failed, job=job_id)


def _same_submission(one: JobView, other: JobView) -> bool:
    return (one.submission, one.submitted) == (other.submission, other.submitted)


def _shown(stored: StoredView | None) -> JobView | None:
    if stored is None or stored.value is None:
        return None
    try:
        return read_view(stored.job_id, stored.value)
    except UndecodableError:
        return None
