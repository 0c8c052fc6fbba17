"""What a runner does with a delivery: run the job, or find out from the log why not."""

import asyncio
from typing import Final

import structlog

from stint.errors import (
    BrokerUnavailableError,
    EngineError,
    InvalidJobIdError,
    InvalidTokenError,
    JobFailedError,
)
from stint.eventlog import Delivery, Outcome
from stint.events import AnyEvent, Ended, Launched, Rejected, Started, Submitted
from stint.job import ACTIVE, Claim, Job, State, decide
from stint.subjects import EventAddress, parse_event_subject
from stint.vault import Ticket
from stint_runner.execute import Execution
from stint_runner.lease import Lease, LeaseTimes
from stint_runner.opening import RejectedError, UnfitError
from stint_runner.parts import Parts
from stint_runner.prepare import Claimed, remove_containers
from stint_runner.waiting import InterruptedByEventError, append_surely, attempts, patiently, unless
from stint_runner.watch import Verdict, Watch, verdict_on_ended

log = structlog.get_logger()

LOOK_AGAIN_PAUSE: Final = 0.2
"""Seconds between two looks at a job that somebody else is at."""
ENGINE_PATIENCE: Final = 5.0
"""Seconds that a container engine may be away before the job is left to other runners."""
BARRED: Final = "A fact of this job came before its submission."
LEFTOVERS: Final = 30.0
"""Seconds that leftover containers may take to be removed."""


class Attendant:
    """Attends to deliveries, any number at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._watches: set[Watch] = set()
        self._cleaning: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Give back what has not been claimed yet."""
        for watch in self._watches:
            watch.leave.set()

    def kill_all(self) -> None:
        """End all jobs that run here, as a kill would."""
        for watch in self._watches:
            watch.killed.set()

    async def close(self) -> None:
        """Wait for the clean-up of all jobs."""
        if self._cleaning:
            await asyncio.wait(self._cleaning)

    async def attend(self, token: str, delivery: Delivery, *, pulled_at: float) -> None:
        """See to a delivery until it needs nothing more from this runner.

        Args:
            token: the queue's token.
            delivery: as pulled.
            pulled_at: the loop's time when the pull was sent.

        Raises:
            UnfitError: this runner cannot run jobs now; the delivery was given back.
        """
        lease_time = await self._parts.queues.lease(token)
        times = LeaseTimes(lease=lease_time, takeover=self._parts.takeover)
        lease = Lease(delivery, times, confirmed=pulled_at)
        try:
            address = parse_event_subject(delivery.subject)
        except (InvalidTokenError, InvalidJobIdError):
            await self._throw_away(lease)
            return
        with structlog.contextvars.bound_contextvars(job=address.job_id):
            await self._hold(address, lease)

    async def _throw_away(self, lease: Lease) -> None:
        """Record what names no queue or job, outside the view, and get it out of its queue."""
        event = self._parts.fact(Rejected, error="The subject names no queue or no job.")
        sequence = lease.delivery.sequence
        await patiently(lambda: self._parts.log.record_rejection(sequence, event))
        await lease.ack()
        log.warning("submission rejected", sequence=sequence, error=event.error)

    async def _hold(self, address: EventAddress, lease: Lease) -> None:
        """Keep the lease alive and the log in view while the job is seen to."""
        watch = Watch()
        self._watches.add(watch)

        async def look() -> None:
            watch.see(await self._parts.log.load(address.job_id))

        keeping = asyncio.create_task(lease.keep(look))
        following = asyncio.create_task(self._follow(address.job_id, watch))
        lost = asyncio.Event()
        keeping.add_done_callback(lambda _: lost.set())
        try:
            await unless(lost, self._settle(address, lease, watch))
        except InterruptedByEventError:
            log.warning("lease lost", error=str(keeping.exception()))
        finally:
            keeping.cancel()
            following.cancel()
            await asyncio.gather(keeping, following, return_exceptions=True)
            self._watches.discard(watch)

    async def _follow(self, job_id: str, watch: Watch) -> None:
        """A live fact is only a trigger; what counts is read from the log. One that is missed, a heartbeat finds."""
        async for attempt in attempts(on=BrokerUnavailableError):
            with attempt:
                async with self._parts.log.follow(job_id) as facts:
                    watch.see(await self._parts.log.load(job_id))
                    async for _ in facts:
                        watch.see(await self._parts.log.load(job_id))

    async def _settle(self, address: EventAddress, lease: Lease, watch: Watch) -> None:
        seen, verdict = 0, Verdict.LOOK_AGAIN
        while verdict is Verdict.LOOK_AGAIN:
            job = await patiently(lambda: self._parts.log.load(address.job_id))
            if job is not None and job.state is State.QUEUED and job.sequence == seen:
                # Nobody came first, and yet no fact can be appended: a stranger's stands in its place already.
                verdict = await self._end_unstarted(job, self._parts.fact(Rejected, error=BARRED))
                await asyncio.sleep(LOOK_AGAIN_PAUSE)
                continue
            seen = job.sequence if job else 0
            try:
                verdict = await self._see_to(job, address, lease, watch)
            except UnfitError:
                await lease.give_back()
                raise
        if verdict is Verdict.WAIT_AND_ACK:
            await asyncio.sleep(self._parts.takeover)
        if verdict is Verdict.GIVE_BACK:
            await lease.give_back()
        elif verdict is not Verdict.DROP:
            await patiently(lease.ack)

    async def _see_to(self, job: Job | None, address: EventAddress, lease: Lease, watch: Watch) -> Verdict:
        if job is None or job.token != address.token:
            return Verdict.ACK  # purged, or the job of another queue: never run
        if job.terminal:
            return verdict_on_ended(job)
        if job.state in ACTIVE:
            return await self._take_over(job)
        return await self._run(job, lease, watch)

    async def _take_over(self, job: Job) -> Verdict:
        """Its runner was lost, or this is that runner after a restart, whose container nobody watches any more."""
        mine = job.runner == self._parts.runner
        leftovers = await self._remove_leftovers(job.job_id) if mine else 0
        if mine and not leftovers and Launched.kind not in job.facts:
            ended = self._parts.fact(
                Ended, status="failed", reason="internal", error="The runner stopped before the job had a container."
            )
        else:
            ended = self._parts.fact(
                Ended, status="unknown", reason="lost", error="The runner that had the job was lost."
            )
        await append_surely(self._parts.log, job.token, job.job_id, ended)
        log.warning("job lost", runner=job.runner)
        if mine:
            return Verdict.ACK
        await asyncio.sleep(self._parts.takeover)
        await self._remove_leftovers(job.job_id)
        return Verdict.ACK

    async def _remove_leftovers(self, job_id: str) -> int:
        return await patiently(lambda: remove_containers(self._parts, job_id), on=EngineError, within=LEFTOVERS)

    # --- a queued job -----------------------------------------------------------------------------------------------

    async def _run(self, job: Job, lease: Lease, watch: Watch) -> Verdict:
        try:
            examined = await unless(watch.leave, self._examine(job))
        except InterruptedByEventError:
            return Verdict.LOOK_AGAIN if watch.over.is_set() else Verdict.GIVE_BACK
        if not isinstance(examined, Ticket):
            return await self._end_unstarted(job, examined)
        submitted, started = job.fact(Submitted), self._parts.fact(Started, runner=self._parts.runner)
        claim = decide(job, Claim(started))
        outcome = await append_surely(self._parts.log, job.token, job.job_id, *claim, after=job.sequence)
        if outcome is Outcome.LOST or submitted is None:
            return Verdict.LOOK_AGAIN
        claimed = Claimed(
            job_id=job.job_id,
            token=job.token,
            submitted=submitted,
            ticket=examined,
            ack=lease.delivery.ack_subject,
        )
        execution = Execution(self._parts, claimed)
        try:
            return await self._finish(job, execution, lease, watch)
        finally:
            await self._clean_up(execution)

    async def _clean_up(self, execution: Execution) -> None:
        """Outside the job's own scope: neither a lost lease nor a drain's end cuts it short."""
        task = asyncio.create_task(execution.clean_up())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        await asyncio.shield(task)

    async def _examine(self, job: Job) -> Ticket | AnyEvent:
        """All that costs nothing: the ticket of a job that can be claimed, or the fact that ends it unstarted."""
        parts = self._parts
        if job.kill_requested:
            return parts.fact(Ended, status="failed", reason="killed", error="job killed")
        try:
            ticket = await parts.opener.ticket(job)
            await parts.opener.check_wrapping(ticket)
        except RejectedError as error:
            return parts.fact(Rejected, error=error.sentence)
        except JobFailedError as error:
            return parts.fact(Ended, status=error.status, reason=error.reason, error=error.sentence)
        try:
            await patiently(lambda: remove_containers(parts, job.job_id), on=EngineError, within=ENGINE_PATIENCE)
        except EngineError as error:
            raise UnfitError(f"The container engine does not answer: {error.sentence}") from None
        return ticket

    async def _end_unstarted(self, job: Job, event: AnyEvent) -> Verdict:
        outcome = await append_surely(self._parts.log, job.token, job.job_id, event, after=job.sequence)
        if outcome is Outcome.LOST:
            return Verdict.LOOK_AGAIN
        log.info("job not started", kind=event.kind)
        return Verdict.ACK

    async def _finish(self, job: Job, execution: Execution, lease: Lease, watch: Watch) -> Verdict:
        log.info("job started")
        try:
            ended = await unless(watch.over, execution.run(watch.killed))
        except InterruptedByEventError:
            log.warning("job ended by another")
            return Verdict.DROP
        except Exception as error:  # one job can never take a runner down
            log.exception("internal error")
            sentence = f"Internal error in the runner: {type(error).__name__}."
            ended = self._parts.fact(Ended, status="failed", reason="internal", error=sentence)
        await execution.contain()
        watch.ending = True
        outcome = await append_surely(self._parts.log, job.token, job.job_id, ended)
        if outcome is Outcome.LOST:
            return Verdict.DROP
        log.info("job ended", status=ended.status, reason=ended.reason, return_code=ended.return_code)
        await patiently(lease.ack)
        return Verdict.DROP
