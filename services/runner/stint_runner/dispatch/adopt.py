"""Adoption: when a runner starts, it resumes the jobs that an earlier process of it has left running."""

import asyncio
import contextlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, EngineError, LeaseLostError
from stint.core.job import ACTIVE, Job, State
from stint.core.names.headers import LABEL_ACK, LABEL_JOB, LABEL_ORIGIN, LABEL_RUNNER
from stint.core.names.subjects import EventAddress
from stint.ports import Delivery, Look
from stint.process.background import cancel
from stint.process.waiting import InterruptedByEventError, interrupted_by
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.engine.removal import cleared
from stint_runner.job.run import JobRun
from stint_runner.lease.lease import Lease, LeaseTimes
from stint_runner.lease.leased_job import LeasedJob
from stint_runner.linux import boot_time
from stint_runner.retry import retry
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadline, StoredDeadline

log = structlog.get_logger()

ENGINE_PATIENCE: Final = 20.0  # seconds for the engine to list containers without a deadline when a runner starts


@dataclass
class _NoDelivery:
    """Replaces a delivery that this runner has lost, if the queue waits for this runner."""

    ack_subject: str
    origin: str
    lease: float
    subject: str = ""
    sequence: int = 0
    after_expiry: bool = False
    left: Look | None = None

    async def renew(self) -> None:
        raise LeaseLostError

    async def ack(self) -> None:
        raise LeaseLostError

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        del delay, hint
        raise LeaseLostError


class Adoption:
    """Finds the jobs that an earlier process of this runner left. `run` once, before anything is pulled."""

    def __init__(self, runner: Runner, dispatcher: Dispatcher) -> None:
        # The jobs adopted so far, each under its lease already. Whoever cancels `run` still has to await them.
        self.adopted: list[asyncio.Task[None]] = []
        self._runner = runner
        self._dispatcher = dispatcher

    async def run(self, stopping: asyncio.Event) -> None:
        """Adopt the jobs whose leases can be renewed, and clean up after the others.

        Jobs with a deadline on disk come first, concurrently and without the engine, because their leases are running.
        A stop ends this at once, for the runner's next process to do, unless a job is adopted already. That job keeps
        this process and with it the runner's name, so the others are looked at for as long as a lease lasts.
        """
        deadlines = {found.deadline.job_id: found for found in self._runner.deadlines.all()}
        looking = self._look_at(deadlines.values())
        try:
            async with interrupted_by(stopping):
                await _done(looking)
                others = await self._containers()
                looking += self._look_at(others[job_id] for job_id in others.keys() - deadlines.keys())
                await _done(looking)
        except InterruptedByEventError:
            if self.adopted:
                await _done(looking, within=self._runner.settings.lease)
        finally:
            await cancel(*looking)

    def _look_at(self, jobs: Iterable[StoredDeadline]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._adopt_or_clear(found.deadline.job_id, found)) for found in jobs]

    async def _containers(self) -> Mapping[str, StoredDeadline]:
        """What this runner's containers say of their jobs, by job. A deadline that is not known counts as never due."""
        try:
            labels = {LABEL_RUNNER: self._runner.id}
            found = await retry(lambda: self._runner.engine.find(labels), on=EngineError, within=ENGINE_PATIENCE)
        except EngineError as error:
            log.error("only jobs with a deadline adopted: the engine does not answer", error=error.sentence)  # noqa: TRY400 - a sentence says it
            return {}
        deadlines = [_told_by(container.labels, self._runner.settings.lease) for container in found]
        return {deadline.job_id: StoredDeadline(deadline, math.inf) for deadline in deadlines}

    async def _adopt_or_clear(self, job_id: str, found: StoredDeadline) -> None:
        """A failure affects no other job; the watchdog ends this one."""
        with structlog.contextvars.bound_contextvars(job=job_id):
            try:
                await self._decide(job_id, found)
            except Exception:
                log.exception("job not adopted")

    async def _decide(self, job_id: str, found: StoredDeadline) -> None:
        job = await retry(lambda: self._runner.log.load(job_id))
        if job is not None and job.state is State.QUEUED:  # perhaps read from a replica that lags behind
            job = await retry(lambda: self._runner.log.load(job_id, at_least=sys.maxsize))
        if job is None:
            return  # of another Stint on this engine
        ours = job.state in ACTIVE and job.runner == self._runner.id
        delivery, asked = None, boot_time()
        if ours or job.state is State.QUEUED:
            delivery = await self._reclaim(job, found, asked)
        if ours and (delivery or self._runner.holds(job)):
            self._adopt(job, delivery, asked, found.deadline)
            return
        if delivery:  # it was received and not claimed: give it back before its lease ends
            with contextlib.suppress(LeaseLostError):
                await retry(delivery.give_back)
        if ours:
            log.warning("job not adopted: its lease is over")
        self._dispatcher.clean_up(self._clear(job))

    async def _reclaim(self, job: Job, found: StoredDeadline, asked: float) -> Delivery | None:
        """Renew its delivery; None if another runner may have it by now."""
        deadline, settings = found.deadline, self._runner.settings
        left = found.due - LeaseTimes(lease=deadline.seconds, takeover=settings.takeover).margin - asked
        if not (deadline.ack_subject and deadline.origin) or left < 0:
            return None
        queues = self._runner.queues
        try:
            return await retry(
                lambda: queues.reclaim(job.token, deadline.ack_subject, deadline.origin),
                within=min(left, settings.lease),
            )
        except BrokerUnavailableError as error:
            log.warning("delivery not reclaimed", error=error.sentence)
            return None

    def _adopt(self, job: Job, delivery: Delivery | None, asked: float, earlier: Deadline) -> None:
        lease = Lease(
            delivery or _NoDelivery(earlier.ack_subject, earlier.origin, earlier.seconds),
            takeover=self._runner.settings.takeover,
            confirmed=asked,
        )
        lease.shorten(earlier.seconds)
        lease.lost = delivery is None
        leased = LeasedJob(
            self._runner.log, self._runner.queues, EventAddress("submitted", job.token, job.job_id), lease
        )
        leased.see(job)
        run = JobRun(self._runner, leased)
        run.adopt(job, earlier)
        log.info("job adopted", lease="lost" if lease.lost else "renewed")
        self.adopted.append(asyncio.create_task(self._dispatcher.run(run)))

    async def _clear(self, job: Job) -> None:
        if await cleared(self._runner.engine, job.job_id):
            self._runner.deadlines.drop(job.job_id)


def _told_by(labels: Mapping[str, str], seconds: float) -> Deadline:
    """What a container's labels say of its job, as far as a deadline would."""
    return Deadline(
        job_id=labels.get(LABEL_JOB, ""),
        ack_subject=labels.get(LABEL_ACK, ""),
        origin=labels.get(LABEL_ORIGIN, ""),
        process="",
        boot="",
        seconds=seconds,
    )


async def _done(tasks: Sequence[asyncio.Task[None]], within: float | None = None) -> None:
    """Wait for all of them; they continue if this is cancelled, or if the seconds are over."""
    if tasks:
        await asyncio.wait(tasks, timeout=within)
