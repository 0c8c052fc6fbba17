"""What a runner does with a delivery: run the job, or find out from the log why not."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from stint.core.errors import ConfigError, InvalidJobIdError, InvalidTokenError, LeaseLostError
from stint.core.events import Ended, Launched, Rejected
from stint.core.job import ACTIVE, Finish, Job, State, decide
from stint.core.subjects import EventAddress, parse_event_subject, queue_name
from stint.ports import Delivery, Outcome
from stint_runner.dispatch.takeover import take_over
from stint_runner.inputs.opening import UnfitError
from stint_runner.job.queued import LOOK_AGAIN_PAUSE, QueuedJob
from stint_runner.lease.lease import Lease
from stint_runner.lease.leased import Leased
from stint_runner.lease.watch import Verdict, verdict_on_ended
from stint_runner.parts import Parts
from stint_runner.waiting import append_surely, patiently

log = structlog.get_logger()

BARRED: Final = "A fact of this job came before its submission."


class Attendant:
    """Attends to deliveries, any number at a time.

    Attributes:
        jobs: what it is at, by address.
    """

    def __init__(self, parts: Parts) -> None:
        self.jobs: dict[EventAddress, Leased] = {}
        self._parts = parts
        self._cleaning: set[asyncio.Task[object]] = set()

    def drain(self) -> None:
        """Give back what has not been claimed yet."""
        for leased in self.jobs.values():
            leased.watch.leave.set()

    def kill_all(self) -> None:
        """End all jobs that run here, as a kill would."""
        for leased in self.jobs.values():
            leased.watch.killed.set()

    def clean_up(self, work: Coroutine[Any, Any, object]) -> None:
        """Do this beside the jobs: no queue and no lease waits for it."""
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def clean_ups_below(self, number: int) -> None:
        """Wait until fewer than `number` jobs are being cleaned up after: an engine that hangs gets no more of them."""
        while len(self._cleaning) >= number:
            await asyncio.wait(self._cleaning, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Wait for the clean-up of all jobs."""
        await self.clean_ups_below(1)

    async def attend(self, token: str, delivery: Delivery, *, pulled_at: float) -> None:
        """See to a delivery until it needs nothing more from this runner.

        Args:
            token: the queue's token.
            delivery: as pulled.
            pulled_at: `boot_time` when the pull was sent.

        Raises:
            UnfitError: this runner cannot run jobs now; the delivery was given back.
        """
        lease = Lease(delivery, takeover=self._parts.takeover, confirmed=pulled_at)
        try:
            lease.times.check()
        except ConfigError as error:
            await lease.give_back()
            sentence = (
                f"The lease of queue {queue_name(token)!r}, set by another runner, does not fit this one's settings."
            )
            raise UnfitError(f"{sentence} {error.sentence}") from None
        try:
            address = parse_event_subject(delivery.subject)
        except (InvalidTokenError, InvalidJobIdError):
            await self._throw_away(lease)
            return
        with structlog.contextvars.bound_contextvars(job=address.job_id):
            known = self.jobs.get(address)
            if known is None or not await known.carry_on(delivery, pulled_at):
                leased = Leased(self._parts.log, self._parts.queues, address, lease)
                queued = QueuedJob(self._parts, leased)
                await self.process(leased, queued, lambda: self._find_out(leased, queued))

    async def process(self, leased: Leased, queued: QueuedJob, life: Callable[[], Awaitable[Verdict]]) -> None:
        """Live a job's life under its lease, then do with its delivery what the verdict says, then clean up."""
        self.jobs[leased.address] = leased
        try:
            await leased.see_through(self._settle(leased, life))
        except LeaseLostError:
            log.warning("delivery left to others: its lease is over")
        finally:
            del self.jobs[leased.address]
            if queued.needs_clean_up:
                self.clean_up(queued.clean_up())

    async def _throw_away(self, lease: Lease) -> None:
        """Record what names no queue or job, outside the view, and get it out of its queue."""
        event = self._parts.fact(Rejected, error="The subject names no queue or no job.")
        sequence = lease.delivery.sequence
        await patiently(lambda: self._parts.log.record_rejection(sequence, event))
        await patiently(lease.ack)
        log.warning("submission rejected", sequence=sequence, error=event.error)

    async def _settle(self, leased: Leased, life: Callable[[], Awaitable[Verdict]]) -> None:
        lease = leased.lease
        try:
            verdict = await life()
        except UnfitError:
            await lease.give_back()
            raise
        except LeaseLostError:
            raise
        except Exception as error:  # one job can never take a runner down, nor hold its queue up for ever
            log.exception("internal error")
            verdict = await self._give_up(leased, error)
        match verdict:
            case Verdict.WAIT_AND_ACK:
                await asyncio.sleep(self._parts.takeover)
                await patiently(lease.ack)
            case Verdict.ACK:
                await patiently(lease.ack)
            case Verdict.GIVE_BACK:
                await lease.give_back()
            case Verdict.WAIT:
                await lease.give_back(lease.times.lease)

    async def _find_out(self, leased: Leased, queued: QueuedJob) -> Verdict:
        seen, verdict = 0, Verdict.LOOK_AGAIN
        while verdict is Verdict.LOOK_AGAIN:
            job = await patiently(lambda: self._parts.log.load(leased.address.job_id))
            if job is not None and job.state is State.QUEUED and job.sequence == seen:
                # Nobody came first, and yet no fact can be appended: a stranger's stands in its place already.
                verdict = await queued.end_unstarted(job, self._parts.fact(Rejected, error=BARRED))
                await asyncio.sleep(LOOK_AGAIN_PAUSE)
                continue
            seen = job.sequence if job else 0
            verdict = await self._see_to(job, leased, queued)
        return verdict

    async def _see_to(self, job: Job | None, leased: Leased, queued: QueuedJob) -> Verdict:
        if job is None or job.token != leased.address.token:
            return Verdict.ACK  # purged, or the job of another queue: never run
        if job.terminal:
            return verdict_on_ended(job)
        if job.state in ACTIVE:
            return await take_over(self._parts, job, leased.lease.delivery)
        return await queued.run(job)

    async def _give_up(self, leased: Leased, error: Exception) -> Verdict:
        """End a job that makes this runner fail. What it had started was contained before this."""
        job = await patiently(lambda: self._parts.log.load(leased.address.job_id))
        if job is None or (job.state in ACTIVE and job.runner != self._parts.runner):
            return Verdict.DROP
        sentence = f"Internal error in the runner: {type(error).__name__}."
        launched = Launched.kind in job.facts
        status = "unknown" if launched else "failed"
        ended = self._parts.fact(Ended, status=status, reason="internal", error=sentence, output_complete=not launched)
        for event in decide(job, Finish(ended)):
            if await append_surely(self._parts.log, job.token, job.job_id, event, after=job.sequence) is Outcome.LOST:
                return Verdict.DROP
        return Verdict.ACK
