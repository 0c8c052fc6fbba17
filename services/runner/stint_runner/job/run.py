"""The life of one job in this runner: examined, claimed, prepared, run, ended, cleaned up after."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from stint.core import commands
from stint.core.errors import EngineError, JobFailedError, LeaseLostError
from stint.core.events import AnyEvent, Launched, Rejected, Started
from stint.core.job import ACTIVE, Job
from stint.core.names.headers import LABEL_JOB, LABEL_RUNNER
from stint.ports import Place
from stint.process.waiting import InterruptedByEventError, interrupted_by, unless
from stint_runner.engine.port import ContainerInfo
from stint_runner.engine.removal import cleared, remove_containers
from stint_runner.inputs.memory import Share
from stint_runner.inputs.opening import RejectedError
from stint_runner.job import verdict
from stint_runner.job.container import Exited, JobContainer
from stint_runner.job.examine import OvertakenError, examine
from stint_runner.job.prepare import Preparation, Prepared
from stint_runner.job.takeover import take_over, take_over_own
from stint_runner.job.verdict import UnstartedError, Verdict
from stint_runner.lease.leased_job import LeasedJob
from stint_runner.phases import Report
from stint_runner.retry import append_events, retry
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadline
from stint_runner.watchdog.job_deadline import JobDeadline

log = structlog.get_logger()

BARRED: Final = "An event of this job came before its submission."
TAKEN: Final = "The id is that of a job of another queue."
LOOK_AGAIN_PAUSE: Final = 0.2  # seconds between two reads of a job to which another process is appending


class JobRun:
    """One job of this runner. `verdict` once, under its lease; then `clean_up` and `log_out`, whatever came of it."""

    def __init__(self, runner: Runner, leased: LeasedJob) -> None:
        self.leased = leased
        self._runner = runner
        self._address = leased.address
        self._adopted: tuple[Job, Deadline] | None = None
        self._deadline = JobDeadline(runner.deadlines, leased)
        self._preparation: Preparation | None = None
        self._container = JobContainer(runner, leased.address.token, leased.address.job_id)

    def adopt(self, job: Job, earlier: Deadline) -> None:
        """Let `verdict` resume a job of an earlier process of this runner. Raises StateError if it is not watched."""
        self._adopted, self.leased.claimed = (job, earlier), True
        self.leased.holds = self._runner.holds(job)
        self._deadline.begin(earlier)

    async def verdict(self) -> Verdict:
        """Do for the job what the log says; returns what becomes of its delivery.

        Raises UnfitError if this runner cannot run jobs now, LeaseLostError if the job may be another runner's.
        """
        if self._adopted:
            # As adoption found it. If later events end it, the lease's keeper hears of them and interrupts the run.
            return await self._resume(*self._adopted)
        seen = 0
        while (job := await self._load(at_least=seen + 1)) is not None:
            try:
                return await self._process(job, seen)
            except UnstartedError as unstarted:
                if await self._append(unstarted.event, after=job.sequence):
                    log.info("job not started", kind=unstarted.event.kind)
                    return Verdict.ACK
                await asyncio.sleep(LOOK_AGAIN_PAUSE)
            except OvertakenError:
                log.debug("somebody else's event came first")
            seen = job.sequence
        return Verdict.ACK  # it was purged

    async def _process(self, job: Job, seen: int) -> Verdict:
        """Examine, claim and run a queued job, or take over a lost runner's. `seen`: its sequence at the last try."""
        if job.token != self._address.token:  # its id was used again in this queue: an id's first submission is the job
            await self._append(self._runner.fact(Rejected, error=TAKEN))
            return Verdict.ACK
        if job.terminal:
            return verdict.on_ended(job)
        if job.state in ACTIVE:
            self.leased.lease.check()  # a queue that would have waited for this runner may be another's by now
            return await take_over(self._runner, job, self.leased.lease.delivery, overtaken=bool(seen))
        self.leased.check_fit()
        if job.sequence == seen:  # nobody came first, and nothing can be appended: a stranger's event is in the place
            raise UnstartedError(self._runner.fact(Rejected, error=BARRED))
        if job.kill_requested:
            raise UnstartedError(verdict.never_ran(self._runner, "failed", "killed", "job killed"))
        if await self._runner.is_paused(job.token):  # asked after the job was loaded: see `stint.ports.Pauses`
            return Verdict.PAUSED
        with self._runner.memory.share() as share:
            preparation = await self._examine(job, share)
            if preparation is None:
                return Verdict.RETURN
            self.leased.holds = self._runner.holds(job)
            self._deadline.begin()
            await self._claim(job, preparation)
            self._preparation = preparation
            return await self._run(job, partial(self._start, preparation))

    # --- before it is claimed ---------------------------------------------------------------------------------------

    async def _examine(self, job: Job, share: Share) -> Preparation | None:
        """What prepares the job once it is claimed, None if this runner must not claim it any more.

        Raises UnstartedError if it can never run, OvertakenError if it was ended meanwhile, UnfitError if not here.
        """
        try:
            async with interrupted_by(self.leased.unwanted):
                examined = await examine(self._runner, job, share)
        except InterruptedByEventError:
            if self.leased.ended_by_another.is_set():
                raise OvertakenError from None
            return None
        except RejectedError as error:
            raise UnstartedError(self._runner.fact(Rejected, error=error.sentence)) from None
        except JobFailedError as error:
            raise UnstartedError(verdict.never_ran(self._runner, error.status, error.reason, error.sentence)) from None
        return Preparation(self._runner, job, examined, self.leased.lease.delivery, share)

    async def _claim(self, job: Job, preparation: Preparation) -> None:
        claim, won = commands.claim(job, preparation.claim()), False
        try:
            won = await self._append(*claim, after=job.sequence)
        finally:
            if not won:  # also if this is cancelled: it has no container here, and may be another's in a moment
                self._deadline.drop()
        if not won:
            raise OvertakenError
        self.leased.claimed = True
        log.info("job started")

    # --- once it is claimed -----------------------------------------------------------------------------------------

    async def _run(self, job: Job, to_exit: Callable[[Report], Awaitable[Exited]]) -> Verdict:
        try:
            async with interrupted_by(self.leased.ended_by_another):
                with self._runner.phases.of(Place(job.token, job.job_id)) as report:
                    how = await to_exit(report)
            ended = verdict.exited(self._runner, self._container, self._image(job), how)
        except InterruptedByEventError:
            log.warning("job ended by another")
            return Verdict.LEAVE
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is becomes the job's end, and is logged there
            ended = verdict.failed(self._runner, self._container, self._image(job), error)
        await self._container.contain()
        self._deadline.drop()
        self.leased.ending = True
        if not await self._append(ended):
            return Verdict.LEAVE
        log.info("job ended", status=ended.status, reason=ended.reason, return_code=ended.return_code)
        return Verdict.ACK

    async def _start(self, preparation: Preparation, report: Report) -> Exited:
        killed = self.leased.killed
        try:
            prepared = await unless(killed, preparation.run(report))
        except InterruptedByEventError:
            raise JobFailedError("job killed", reason="killed") from None
        self._runner.space.made()
        report("running")
        return await self._container.start(prepared, killed, check=lambda: self._before_start(prepared))

    def _before_start(self, prepared: Prepared) -> None:
        """The last look at the clock: this process may have been frozen since the last heartbeat."""
        if self.leased.killed.is_set():
            raise JobFailedError("job killed", reason="killed")
        self.leased.check()
        self._deadline.add_container(prepared.container_id, prepared.secrets_digest)

    async def _resume(self, job: Job, earlier: Deadline) -> Verdict:
        """Continue an adopted job. Its queue waits until the engine says what became of the container."""
        engine, labels = self._runner.engine, {LABEL_RUNNER: self._runner.id, LABEL_JOB: job.job_id}
        found = await retry(lambda: engine.find(labels), on=EngineError)
        # A container that somebody made from a commit of the job's has its labels, too.
        started = [one for one in found if one.started and earlier.container_id in {"", one.container_id}]
        if started:
            return await self._run(job, partial(self._continue, job, earlier, started[0]))
        self._deadline.drop()
        return await take_over_own(self._runner, job)

    async def _continue(self, job: Job, earlier: Deadline, container: ContainerInfo, report: Report) -> Exited:
        report("running")
        since = job.time_of(Launched.kind, Started.kind)
        return await self._container.resume(container, self.leased.killed, earlier, since=since)

    def _image(self, job: Job) -> str:
        """As the payload named it, "" if that is not known."""
        launched = job.fact(Launched)
        return self._preparation.image if self._preparation else launched.container_image if launched else ""

    async def give_up(self, error: Exception) -> Verdict:
        """End a job for which `verdict` raised an unexpected error, so that its queue continues."""
        log.error("internal error", exc_info=error)
        job = await self._load()
        if job is None or (job.state in ACTIVE and job.runner != self._runner.id):
            return Verdict.LEAVE
        if job.state in ACTIVE:  # the queue must not continue while a container may run
            await retry(lambda: remove_containers(self._runner.engine, job.job_id), on=EngineError)
        ended = verdict.gave_up(self._runner, job, error)
        recorded = job.terminal or await self._append(ended, after=job.sequence)
        return Verdict.ACK if recorded else Verdict.LEAVE

    async def _load(self, *, at_least: int = 0) -> Job | None:
        return await retry(lambda: self._runner.log.load(self._address.job_id, at_least=at_least))

    async def _append(self, *events: AnyEvent, after: int | None = None) -> bool:
        """Whether the events are in the log, and ours."""
        return await append_events(self._runner.log, self._address.token, self._address.job_id, *events, after=after)

    # --- afterwards -------------------------------------------------------------------------------------------------

    @property
    def needs_clean_up(self) -> bool:
        """Whether there may be a container, or a token."""
        return self._preparation is not None or self._adopted is not None

    async def clean_up(self) -> None:
        """Stop a container that lost its lease, and remove the job's containers."""
        if self.leased.forfeited.is_set():
            await self._container.fence(self.leased.lease.times.fence_grace)
        preparation, engine = self._preparation, self._runner.engine
        if await (preparation.remove() if preparation else cleared(engine, self._address.job_id)):
            self._deadline.drop()

    async def log_out(self) -> None:
        """Revoke the job's token, after `clean_up`. A login may be repeated for minutes before that."""
        if self._preparation:
            await self._preparation.log_out()
