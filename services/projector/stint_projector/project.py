"""Writes the view of a job from its events, and removes the data of ended and deleted jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from stint.core.codec import encode
from stint.core.errors import UndecodableError
from stint.core.job import Job, State
from stint.core.view import expiry, read_view, view
from stint.ports import EventLog, OutputLog, PayloadStore, Place, StoredView, ViewStore
from stint_projector.agenda import Agenda

log = structlog.get_logger()


@dataclass(kw_only=True)
class Projector:
    """Computes the view from the log alone. Any number may run concurrently, and any event may be delivered twice.

    Attributes:
        agenda: gets the time at which an ended job can no longer be read.
        retention: how long it can be read.
    """

    log: EventLog
    views: ViewStore
    payloads: PayloadStore
    output: OutputLog
    agenda: Agenda
    retention: timedelta
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def project(self, job_id: str, *, create: bool, at_least: int = 0) -> int:
        """Update the view of a job; returns the sequence up to which the view now includes its events.

        Args:
            job_id: the job's id.
            create: create the view if there is none. Only for a `submitted`: for a later event a missing view means
                that it has expired.
            at_least: the sequence of the event that caused the update.
        """
        job = await self.log.load(job_id, at_least=at_least)
        if job is None:
            return 0
        if not self._is_over(job) and await self._write(job, create=create):
            # An event that came while the view was being created has found none: update it again.
            return await self.project(job_id, create=False, at_least=at_least)
        await self.tidy(job)
        return job.sequence

    async def rebuild(self, job_id: str) -> None:
        """Replace the view by what the log says, whatever its content. Others may write it meanwhile."""
        while True:
            stored = await self.views.get(job_id)
            # Loaded after the view was read, and not older: of two concurrent writers the later one tries again.
            job = await self.log.load(job_id, at_least=_sequence(stored) or 0)
            if job is None:
                await self.remove_view(job_id)
                return
            # Only a view that was there is final: a writer with a newer event then finds one to update.
            if self._is_over(job) or (await self._put(stored, job) and stored and stored.value is not None):
                await self.tidy(job)
                return

    async def tidy(self, job: Job) -> None:
        """Remove what is no longer needed of a job; nothing if the job has not ended. Safe to repeat."""
        if not job.terminal:
            return
        place = Place(job.token, job.job_id)
        await self.payloads.purge(*place)
        if self._is_over(job):
            await self.remove_view(job.job_id)
            await self.output.purge(*place)
            self.agenda.drop(place)
        elif expires := expiry(job, self.retention):
            self.agenda.put(place, expires)

    def _is_over(self, job: Job) -> bool:
        """Whether the job can no longer be read."""
        expires = expiry(job, self.retention)
        return job.state is State.DELETED or (expires is not None and expires <= self.now())

    async def _write(self, job: Job, *, create: bool) -> bool:
        """Write the view; returns whether it was created."""
        while True:
            stored = await self.views.get(job.job_id)
            if not _is_due(stored, job, create=create):
                return False
            if await self._put(stored, job):
                return stored is None

    async def _put(self, stored: StoredView | None, job: Job) -> bool:
        """Write the view if the stored one is still the same."""
        expires = expiry(job, self.retention)
        ttl = expires - self.now() if expires else None
        return await self.views.put(job.job_id, encode(view(job)), revision=stored.revision if stored else 0, ttl=ttl)

    async def remove_view(self, job_id: str) -> None:
        """Remove the view of a job that can no longer be read. Safe to repeat."""
        stored = await self.views.get(job_id)
        if stored is not None and stored.value is not None:
            await self.views.delete(job_id)


def _is_due(stored: StoredView | None, job: Job, *, create: bool) -> bool:
    """Whether the stored view is out of date. A view that expired or was deleted is never written again."""
    if stored is None:
        return create
    if stored.value is None:
        return False
    known = _sequence(stored)
    if known is None:
        log.warning("view is unreadable, replacing it", job=job.job_id)
    return known is None or known < job.sequence


def _sequence(stored: StoredView | None) -> int | None:
    """The sequence of the last event in the view, None if there is no readable view."""
    if stored is None or stored.value is None:
        return None
    try:
        return read_view(stored.job_id, stored.value).sequence
    except UndecodableError:
        return None
