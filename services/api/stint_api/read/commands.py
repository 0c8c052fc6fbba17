"""Killing, releasing and deleting: decided on the job's own events, and again if another writer was faster."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar

import structlog

from stint.core import commands
from stint.core.errors import StintError
from stint.core.events import AnyEvent, Deleted, Ended, KillRequested, Released, Submitted
from stint.core.job import Job, State
from stint.core.names.ids import check_job_id, queue_name
from stint.ports import EventLog, KeptPayloads, Outcome, OutputLog, PayloadStore
from stint.vault.actions import DELETE, KILL, READ, RELEASE, Action
from stint.vault.erasure import PayloadKeys
from stint_api.auth import Authenticator, Identity
from stint_api.errors import RefusalError, unknown_if_cancelled
from stint_api.submit.submitter import check_outcome, visible

log = structlog.get_logger()

E = TypeVar("E", bound=AnyEvent)

ATTEMPTS: Final = 5
"""A job has fewer events than that: a command that loses this often has another fault."""
RELEASED: Final = "Released by an operator: its runner was lost."
"""What a released job shows as its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Finds jobs, kills, releases and deletes them.

    A command returns the job as it was before. It raises IllegalCommandError if the job's state does not allow it.
    `keys` is None if payloads get no key of their own.
    """

    log: EventLog
    payloads: PayloadStore
    keys: PayloadKeys | None
    kept: KeptPayloads
    output: OutputLog
    auth: Authenticator
    retention: timedelta
    now: Callable[[], datetime]

    async def find(self, identity: Identity, job_id: str, action: Action = READ) -> Job:
        """The job, if it can be seen and the caller may do this to it.

        Otherwise raises RefusalError, or InvalidJobIdError if that is not an id.
        """
        job = await self.log.current(check_job_id(job_id))
        if job is None or not visible(job, self.retention, self.now()):
            raise RefusalError(HTTPStatus.NOT_FOUND, "not found")
        await self.auth.require(identity, action, queue_name(job.token))
        return job

    async def kill(self, identity: Identity, job_id: str) -> Job:
        """Request the job's end; a queued one ends at once."""

        def decide(job: Job) -> commands.Events:
            ended = self._event(
                Ended,
                identity,
                status=State.FAILED,
                reason="killed",
                error="job killed",
                output_complete=True,  # appended only where the job never ran
            )
            return commands.kill(job, self._event(KillRequested, identity), ended)

        return await self._carry_out(identity, KILL, job_id, decide)

    async def release(self, identity: Identity, job_id: str) -> Job:
        """Give up the lost runner of a held job, which ends; its queue continues. Safe to repeat."""

        def decide(job: Job) -> commands.Events:
            ended = self._event(Ended, identity, status=State.UNKNOWN, reason="lost", error=RELEASED)
            return commands.release(job, self._event(Released, identity), ended)

        return await self._carry_out(identity, RELEASE, job_id, decide)

    async def delete(self, identity: Identity, job_id: str) -> Job:
        """Remove the job, unless it is running or stopping. A queued one never runs."""
        job = await self._carry_out(
            identity, DELETE, job_id, lambda job: commands.delete(job, self._event(Deleted, identity))
        )
        with unknown_if_cancelled(job_id):
            await self._remove_data(job)
        return job

    async def _remove_data(self, job: Job) -> None:
        try:
            if self.keys and (submitted := job.fact(Submitted)):  # first, because copies of the payload may exist
                await self.keys.destroy_of(job.job_id, submitted)
            await self.payloads.purge(job.token, job.job_id)
            await self.kept.purge(job.token, job.job_id)
            await self.output.purge(job.token, job.job_id)
        except StintError as error:  # the job is deleted; the janitor removes the rest
            log.warning("a deleted job's data is still there", job=job.job_id, error=error.sentence)

    async def _carry_out(
        self, identity: Identity, action: Action, job_id: str, decide: Callable[[Job], commands.Events]
    ) -> Job:
        for _ in range(ATTEMPTS):
            job = await self.find(identity, job_id, action)
            events = decide(job)
            if not events:
                return job
            with unknown_if_cancelled(job.job_id):
                outcome = await self.log.append(job.token, job.job_id, *events, after=job.sequence)
            if outcome is not Outcome.LOST:
                check_outcome(outcome, job.job_id)
                return job
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "The job is changing too fast. Try again.")

    def _event(self, shape: type[E], identity: Identity, **details: Any) -> E:
        return shape(**identity.stamp(self.now()), **details)
