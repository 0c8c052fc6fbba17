"""A job whose turn has come: examined, claimed, run and ended by this runner."""

import os
from typing import Final

import msgspec
import structlog

from stint.core.errors import EngineError, JobFailedError, LeaseLostError
from stint.core.events import AnyEvent, Ended, Rejected, Started, Submitted
from stint.core.job import Claim, Job, decide
from stint.ports import Outcome
from stint.process.waiting import InterruptedByEventError, unless
from stint.vault import Ticket
from stint_runner.clock import boot_id
from stint_runner.engine.removal import cleared, remove_containers
from stint_runner.inputs.opening import RejectedError, UnfitError
from stint_runner.inputs.secretfile import Seal
from stint_runner.job.execute import AdoptedExecution, ClaimedExecution, Execution
from stint_runner.job.prepare import Claimed
from stint_runner.lease.leased import Leased
from stint_runner.lease.watch import Verdict
from stint_runner.parts import Parts
from stint_runner.waiting import append_surely, patiently
from stint_runner.watchdog.deadlines import Deadline, StateError
from stint_runner.watchdog.processes import incarnation

log = structlog.get_logger()

LOOK_AGAIN_PAUSE: Final = 0.2
"""Seconds between two looks at a job that somebody else is at."""
ENGINE_PATIENCE: Final = 5.0
"""Seconds that a container engine may be away before the job is left to other runners."""


class QueuedJob:
    """One job of this runner's: `run` until it is claimed, or `note` and `adopt`; and if it was, then `clean_up`."""

    def __init__(self, parts: Parts, leased: Leased) -> None:
        self._parts = parts
        self._leased = leased
        self._execution: Execution | None = None
        self._deadline: Deadline | None = None

    async def run(self, job: Job) -> Verdict:
        """Claim the job and run it, or record why not."""
        watch = self._leased.watch
        try:
            examined = await unless(watch.leave, self._examine(job))
        except InterruptedByEventError:
            return Verdict.LOOK_AGAIN if watch.over.is_set() else Verdict.GIVE_BACK
        submitted = job.fact(Submitted)
        if not isinstance(examined, Ticket) or submitted is None:
            return await self.end_unstarted(job, examined)  # type: ignore[arg-type] # a ticket is of a submission
        self.note(job)
        try:
            return await self._run_claimed(job, submitted, examined)
        finally:
            if self._execution is None:
                self.over()

    async def _run_claimed(self, job: Job, submitted: Submitted, ticket: Ticket) -> Verdict:
        claim = decide(job, Claim(self._parts.fact(Started, runner=self._parts.runner)))
        outcome = await append_surely(self._parts.log, job.token, job.job_id, *claim, after=job.sequence)
        if outcome is Outcome.LOST:
            return Verdict.LOOK_AGAIN
        delivery = self._leased.lease.delivery
        claimed = Claimed(
            job_id=job.job_id,
            token=job.token,
            submitted=submitted,
            ticket=ticket,
            ack=delivery.ack_subject,
            origin=delivery.origin,
        )
        self._execution = ClaimedExecution(self._parts, claimed, before_start=self._before_start)
        log.info("job started")
        return await self._finish(self._execution)

    async def adopt(self, job: Job, container_id: str, *, seal_key: str | None, time_left: float) -> Verdict:
        """Go on with a container that an earlier process of this runner started.

        Args:
            job: which was noted.
            container_id: its container.
            seal_key: of its secrets file, None if no secrets need to be masked.
            time_left: as in its execution.
        """
        digest = self._deadline.secrets_digest if self._deadline else ""
        seal = None if seal_key is None else Seal(seal_key, digest)
        self._execution = AdoptedExecution(self._parts, job, container_id, seal=seal, timeout=time_left)
        return await self._finish(self._execution)

    # --- its deadline -----------------------------------------------------------------------------------------------

    def note(self, job: Job, container_id: str = "", secrets_digest: str = "") -> None:
        """Give the watchdog the deadline, and keep it up with the lease.

        Raises:
            UnfitError: it cannot be written.
        """
        lease = self._leased.lease
        self._leased.holds = self._parts.holds(job)
        self._deadline = Deadline(
            job_id=job.job_id,
            token=job.token,
            ack_subject=lease.delivery.ack_subject,
            origin=lease.delivery.origin,
            process=incarnation(os.getpid()),
            boot=boot_id(),
            seconds=lease.times.watchdog,
            hold=self._leased.holds,
            container_id=container_id,
            secrets_digest=secrets_digest,
        )
        try:
            self._parts.deadlines.put(self._deadline, lease.confirmed)
        except StateError as error:
            raise UnfitError(error.sentence) from None
        lease.on_confirmed = self._confirm

    def _confirm(self, confirmed: float) -> None:
        if self._deadline is None:
            return
        delivery = self._leased.lease.delivery
        if delivery.ack_subject == self._deadline.ack_subject:
            self._parts.deadlines.confirm(self._deadline.job_id, confirmed)
        else:
            self._change(ack_subject=delivery.ack_subject, origin=delivery.origin, seconds=delivery.lease)

    def _change(self, **fields: str | float) -> None:
        if self._deadline is None:
            return
        self._deadline = msgspec.structs.replace(self._deadline, **fields)
        try:
            self._parts.deadlines.put(self._deadline, self._leased.lease.confirmed)
        except StateError as error:  # the watchdog will end the job: it must not run unwatched
            log.error("deadline not written", error=error.sentence)  # noqa: TRY400 - a sentence says it

    def _before_start(self, container_id: str, secrets_digest: str) -> None:
        """The last look at the clock: this process may have been frozen since the last heartbeat."""
        self._leased.check()
        self._change(container_id=container_id, secrets_digest=secrets_digest)

    def over(self) -> None:
        """Nothing of the job runs here any more."""
        self._deadline = None
        self._parts.deadlines.drop(self._leased.address.job_id)

    # --- before it is claimed ---------------------------------------------------------------------------------------

    async def _examine(self, job: Job) -> Ticket | AnyEvent:
        """All that costs nothing: the ticket of a job that can be claimed, or the fact that ends it unstarted."""
        parts = self._parts
        if job.kill_requested:
            return parts.fact(Ended, status="failed", reason="killed", error="job killed", output_complete=True)
        try:
            ticket = await parts.opener.ticket(job)
            await parts.opener.check_wrapping(ticket)
        except RejectedError as error:
            return parts.fact(Rejected, error=error.sentence)
        except JobFailedError as error:
            return parts.fact(
                Ended, status=error.status, reason=error.reason, error=error.sentence, output_complete=True
            )
        try:
            await patiently(lambda: remove_containers(parts.engine, job.job_id), on=EngineError, within=ENGINE_PATIENCE)
        except EngineError as error:
            raise UnfitError(f"The container engine does not answer: {error.sentence}") from None
        return ticket

    async def end_unstarted(self, job: Job, event: AnyEvent) -> Verdict:
        """Record that the job never ran."""
        outcome = await append_surely(self._parts.log, job.token, job.job_id, event, after=job.sequence)
        if outcome is Outcome.LOST:
            return Verdict.LOOK_AGAIN
        log.info("job not started", kind=event.kind)
        return Verdict.ACK

    # --- once it is claimed -----------------------------------------------------------------------------------------

    @property
    def needs_clean_up(self) -> bool:
        """Whether there may be a container, or a token."""
        return self._execution is not None or self._deadline is not None

    async def _finish(self, execution: Execution) -> Verdict:
        watch, address = self._leased.watch, self._leased.address
        try:
            ended = await unless(watch.over, execution.run(watch.killed))
        except InterruptedByEventError:
            log.warning("job ended by another")
            return Verdict.DROP
        except LeaseLostError:
            raise
        except Exception as error:  # one job can never take a runner down
            log.exception("internal error")
            ended = execution.broken(error)
        await execution.contain()
        self.over()
        watch.ending = True
        outcome = await append_surely(self._parts.log, address.token, address.job_id, ended)
        if outcome is Outcome.LOST:
            return Verdict.DROP
        log.info("job ended", status=ended.status, reason=ended.reason, return_code=ended.return_code)
        return Verdict.ACK

    async def clean_up(self) -> None:
        """End what runs on without a lease, remove the job's containers, and revoke its token."""
        execution = self._execution
        if execution and self._leased.forfeited.is_set():
            await execution.fence(self._leased.lease.times.fence_grace)
        job_id = self._leased.address.job_id
        if await (execution.clean_up() if execution else cleared(self._parts.engine, job_id)):
            self.over()
