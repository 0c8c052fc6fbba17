"""The life of one job in this runner: examined, claimed, prepared, run, ended, cleaned up after."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from stint.core import commands
from stint.core.errors import EngineError, JobFailedError, LeaseLostError, StintError
from stint.core.events import AnyEvent, Ended, Launched, Rejected, Started, Submitted
from stint.core.job import ACTIVE, Job
from stint.core.subjects import LABEL_JOB, LABEL_MASKED, LABEL_RUNNER, LABEL_TIMEOUT
from stint.core.view import parse_time
from stint.ports import Outcome
from stint.process.waiting import InterruptedByEventError, interrupted_by
from stint_runner.engine.port import ContainerInfo
from stint_runner.engine.removal import cleared, remove_containers
from stint_runner.inputs.opening import RejectedError, UnfitError
from stint_runner.inputs.secretfile import Seal
from stint_runner.job import ending
from stint_runner.job.container import JobContainer, Phase
from stint_runner.job.prepare import Claimed, Preparation, Prepared
from stint_runner.job.takeover import take_over, take_over_own
from stint_runner.job.verdict import Verdict, verdict_on_ended
from stint_runner.lease.leased_job import LeasedJob
from stint_runner.parts import Parts
from stint_runner.waiting import append_surely, patiently
from stint_runner.watchdog.deadlines import StateError
from stint_runner.watchdog.kept_deadline import KeptDeadline

log = structlog.get_logger()

BARRED: Final = "A fact of this job came before its submission."
LOOK_AGAIN_PAUSE: Final = 0.2
"""Seconds between two looks at a job that somebody else is at."""
ENGINE_PATIENCE: Final = 5.0
"""Seconds that a container engine may be away before the job is left to other runners."""
EPSILON: Final = 0.001
"""Seconds that are left of a time-out which is over."""


class UnstartedError(StintError):
    """The job ends without having been started."""

    def __init__(self, event: AnyEvent) -> None:
        """`event` is the fact that says so."""
        super().__init__()
        self.event = event


class OvertakenError(StintError):
    """Somebody else's fact came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What an earlier process of this runner left of a job that it had started."""

    container_id: str = ""
    secrets_digest: str = ""


class JobRun:
    """One job of this runner. `verdict` once, under its lease; then `clean_up`, whatever came of it."""

    def __init__(self, parts: Parts, leased: LeasedJob) -> None:
        self.leased = leased
        self._parts = parts
        self._address = leased.address
        self._adopted: Job | None = None
        self._deadline = KeptDeadline(parts.deadlines, leased)
        self._preparation: Preparation | None = None
        self._container = JobContainer(parts, leased.address.token, leased.address.job_id)

    def adopt(self, job: Job, trace: Trace) -> None:
        """Let `verdict` resume a job that an earlier process of this runner has started.

        Raises:
            UnfitError: the watchdog cannot be told.
        """
        self._adopted = job
        self._watch(job, trace)

    def _watch(self, job: Job, trace: Trace) -> None:
        """Let the watchdog watch the job from now on.

        Raises:
            UnfitError: it cannot be told.
        """
        self.leased.holds = self._parts.holds(job)
        try:
            self._deadline.begin(job, trace.container_id, trace.secrets_digest)
        except StateError as error:
            raise UnfitError(error.sentence) from None

    async def verdict(self) -> Verdict:
        """Do what the log says is to be done for the job; returns what is to become of its delivery.

        Raises:
            UnfitError: this runner cannot run jobs now.
            LeaseLostError: the job belongs to somebody else by now.
        """
        if self._adopted:
            # By what adoption saw: what has happened since, the lease's keeper hears, and it interrupts the run.
            return await self._resume(self._adopted)
        seen = 0
        while True:
            job = await patiently(lambda: self._parts.log.load(self._address.job_id))
            if job is None or job.token != self._address.token:
                return Verdict.ACK  # purged, or the job of another queue: never run
            if job.terminal:
                return verdict_on_ended(job)
            try:
                return await self._process(job, barred=job.sequence == seen)
            except UnstartedError as unstarted:
                if await self._append(unstarted.event, after=job.sequence):
                    log.info("job not started", kind=unstarted.event.kind)
                    return Verdict.ACK
                await asyncio.sleep(LOOK_AGAIN_PAUSE)
            except OvertakenError:
                log.debug("somebody else's fact came first")
            seen = job.sequence

    async def _process(self, job: Job, *, barred: bool) -> Verdict:
        """Examine, claim and run a queued job, or take over the job of a lost runner."""
        if job.state in ACTIVE:
            return await take_over(self._parts, job, self.leased.lease.delivery)
        if barred:  # nobody came first, and yet no fact can be appended: a stranger's stands in its place already
            raise UnstartedError(self._parts.fact(Rejected, error=BARRED))
        claimed = await self._examine(job)
        if claimed is None:
            return Verdict.RETURN
        self._watch(job, Trace())
        await self._claim(job)
        return await self._run(job, claimed)

    # --- before it is claimed ---------------------------------------------------------------------------------------

    async def _examine(self, job: Job) -> Claimed | None:
        """Checks that spend nothing. Returns what is claimed, None if this runner must not claim it any more.

        Raises:
            UnstartedError: the job can never run.
            OvertakenError: it was ended meanwhile.
            UnfitError: this runner cannot run it.
        """
        if job.kill_requested:
            raise UnstartedError(ending.never_ran(self._parts, "failed", "killed", "job killed"))
        try:
            async with interrupted_by(self.leased.unwanted):
                ticket = await self._parts.opener.ticket(job)
                await self._parts.opener.check_wrapping(ticket)
                await self._remove_earlier()
        except InterruptedByEventError:
            if self.leased.ended_by_another.is_set():
                raise OvertakenError from None
            return None
        except RejectedError as error:
            raise UnstartedError(self._parts.fact(Rejected, error=error.sentence)) from None
        except JobFailedError as error:
            raise UnstartedError(ending.never_ran(self._parts, error.status, error.reason, error.sentence)) from None
        delivery, submitted = self.leased.lease.delivery, job.fact(Submitted)
        assert submitted is not None, "its ticket was opened"  # noqa: S101 - for the type checker
        return Claimed(
            job_id=job.job_id,
            token=job.token,
            submitted=submitted,
            ticket=ticket,
            ack=delivery.ack_subject,
            origin=delivery.origin,
        )

    async def _remove_earlier(self) -> None:
        """No container may bear the job's label when it is claimed."""
        engine, job_id = self._parts.engine, self._address.job_id
        try:
            await patiently(lambda: remove_containers(engine, job_id), on=EngineError, within=ENGINE_PATIENCE)
        except EngineError as error:
            raise UnfitError(f"The container engine does not answer: {error.sentence}") from None

    async def _claim(self, job: Job) -> None:
        claim, won = commands.claim(job, self._parts.fact(Started, runner=self._parts.runner)), False
        try:
            won = await self._append(*claim, after=job.sequence)
        finally:
            if not won:  # also if this is cancelled: it has no container here, and may be another's in a moment
                self._deadline.drop()
        if not won:
            raise OvertakenError
        log.info("job started")

    # --- once it is claimed -----------------------------------------------------------------------------------------

    async def _run(self, job: Job, what: Claimed | ContainerInfo) -> Verdict:
        """Run the container to its exit, whether it is to be made or was started earlier, and record the job's end."""
        killed = self.leased.killed
        try:
            async with interrupted_by(self.leased.ended_by_another):
                if isinstance(what, Claimed):
                    prepared = await self._prepare(what)
                    how = await self._container.start(prepared, killed, check=lambda: self._before_start(prepared))
                    limit = prepared.timeout
                else:
                    limit = float(what.labels.get(LABEL_TIMEOUT) or 0)
                    how = await self._container.resume(
                        what.container_id, killed, seal=self._seal(what), time_left=_time_left(job, limit)
                    )
            ended = ending.exited(self._parts, self._container, self._image(job), how, limit)
        except InterruptedByEventError:
            log.warning("job ended by another")
            return Verdict.LEAVE
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is becomes the job's end, and is logged there
            ended = ending.failed(self._parts, self._container, self._image(job), error)
        await self._container.contain()
        return await self._end(ended)

    async def _prepare(self, claimed: Claimed) -> Prepared:
        self._preparation = Preparation(self._parts, claimed)
        try:
            async with interrupted_by(self.leased.killed):
                return await self._preparation.run()
        except InterruptedByEventError:
            raise JobFailedError("job killed", reason="killed") from None

    def _before_start(self, prepared: Prepared) -> None:
        """The last look at the clock: this process may have been frozen since the last heartbeat."""
        if self.leased.killed.is_set():
            raise JobFailedError("job killed", reason="killed")
        self.leased.check()
        self._deadline.add_container(prepared.container_id, prepared.secrets_digest)

    async def _resume(self, job: Job) -> Verdict:
        if container := await self._started_container():
            return await self._run(job, container)
        self._deadline.drop()
        return await take_over_own(self._parts, job)

    async def _started_container(self) -> ContainerInfo | None:
        """The job's container. Its queue waits while the engine does not answer: nobody knows what became of it."""
        engine, labels = self._parts.engine, {LABEL_RUNNER: self._parts.runner, LABEL_JOB: self._address.job_id}
        found = await patiently(lambda: engine.find(labels), on=EngineError)
        return next((container for container in found if container.started), None)

    def _seal(self, container: ContainerInfo) -> Seal | None:
        key = container.labels.get(LABEL_MASKED)
        return None if key is None else Seal(key, self._deadline.secrets_digest)

    def _image(self, job: Job) -> str:
        """As the payload named it, as far as that is known."""
        launched = job.fact(Launched)
        return self._preparation.image if self._preparation else launched.container_image if launched else ""

    async def _end(self, ended: Ended) -> Verdict:
        self._deadline.drop()
        self.leased.ending = True
        if not await self._append(ended):
            return Verdict.LEAVE
        log.info("job ended", status=ended.status, reason=ended.reason, return_code=ended.return_code)
        return Verdict.ACK

    async def _append(self, *events: AnyEvent, after: int | None = None) -> bool:
        """Whether the facts are in the log, and ours."""
        outcome = await append_surely(self._parts.log, self._address.token, self._address.job_id, *events, after=after)
        return outcome is Outcome.WON

    async def give_up(self, error: Exception) -> Verdict:
        """End a job for which `verdict` raised what it should not, so that its queue continues."""
        log.error("internal error", exc_info=error)
        job = await patiently(lambda: self._parts.log.load(self._address.job_id))
        if job is None or (job.state in ACTIVE and job.runner != self._parts.runner):
            return Verdict.LEAVE
        launched = Launched.kind in job.facts
        ended = self._parts.fact(
            Ended,
            status="unknown" if launched else "failed",
            reason="internal",
            error=ending.internal(error),
            output_complete=not launched,
        )
        for event in commands.finish(job, ended):
            if not await self._append(event, after=job.sequence):
                return Verdict.LEAVE
        return Verdict.ACK

    # --- afterwards -------------------------------------------------------------------------------------------------

    @property
    def needs_clean_up(self) -> bool:
        """Whether there may be a container, or a token."""
        touched = self._preparation is not None or self._container.phase is not Phase.NOT_STARTED
        return touched or self._deadline.is_kept

    async def clean_up(self) -> None:
        """End what runs on without a lease, remove the job's containers, and revoke its token."""
        if self.leased.forfeited.is_set():
            await self._container.fence(self.leased.lease.times.fence_grace)
        removing = self._preparation.clean_up() if self._preparation else self._cleared()
        if await removing:
            self._deadline.drop()

    async def _cleared(self) -> bool:
        return await cleared(self._parts.engine, self._address.job_id)


def _time_left(job: Job, limit: float) -> float:
    """Seconds that are left of a time-out, counted from when the container was there; 0 for no limit."""
    if not limit:
        return 0
    elapsed = datetime.now(UTC) - parse_time(job.time_of(Launched.kind, Started.kind))
    return max(EPSILON, limit - elapsed.total_seconds())
