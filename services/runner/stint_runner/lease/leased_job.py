"""A job whose lease this runner holds: it sends heartbeats, and follows the job's events in the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from stint.core.errors import ConfigError, LeaseLostError, UnfitError
from stint.core.events import Ended, KillRequested
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.names.subjects import EventAddress
from stint.ports import Delivery, EventLog, WorkQueues
from stint.process.waiting import InterruptedByEventError, interrupted_by, repeat
from stint_runner.lease.lease import Lease
from stint_runner.linux import boot_time

log = structlog.get_logger()

PULL_WAIT: Final = 0.1  # seconds that a pull waits if the queue is empty or busy
GAP: Final = 0.02  # seconds between two looks at least that live events cause: anybody may send them
FOLLOWED: Final = (KillRequested.kind, Ended.kind)
"""Events of other processes that concern a job's runner at once. A job can be rejected or deleted only before its
claim, which is then refused, unless the next heartbeat finds out earlier."""


class LeasedJob:
    """One job, for as long as this runner processes it."""

    def __init__(self, events: EventLog, queues: WorkQueues, address: EventAddress, lease: Lease) -> None:
        self.address = address  # of its submission
        self.lease = lease  # of its newest delivery
        self.killed = asyncio.Event()  # set when a kill was requested
        self.ended_by_another = asyncio.Event()  # set when its end is in the log, and this runner did not write it
        self.unwanted = asyncio.Event()  # set when it must be given back unless it has been claimed
        self.forfeited = asyncio.Event()  # set when the lease was lost: everything done for the job must stop
        self.processed = asyncio.Event()  # set when this runner is done with it
        self.claimed = False  # this runner has claimed it, now or in an earlier process
        self.holds = False  # its queue waits for this runner, so it may continue without a lease
        self.ending = False  # its end is being written by this runner
        self._events = events
        self._queues = queues

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the lease and follow the log during the block. If it is lost, cancel that, and raise LeaseLostError."""
        keeping = asyncio.create_task(self._keep())
        following = asyncio.create_task(
            repeat(self._follow, lambda: self.lease.times.heartbeat / 5, failed="live facts not followed")
        )
        try:
            async with interrupted_by(self.forfeited):
                yield
        except InterruptedByEventError:
            raise LeaseLostError("The job was given up here.") from None
        finally:
            keeping.cancel()
            following.cancel()
            await asyncio.gather(keeping, following, return_exceptions=True)
            self.processed.set()

    async def take_delivery(self, delivery: Delivery, pulled_at: float) -> bool:
        """Take a newer delivery of the same job. If it came too late, return False once the job is processed."""
        if not self.forfeited.is_set():
            log.info("job delivered again to its own runner")
            self.lease.take_delivery(delivery, pulled_at)
            return True
        await self.processed.wait()
        return False

    def check_fit(self) -> None:
        """Raise UnfitError if this runner cannot keep a lease like this one."""
        try:
            self.lease.times.check()
        except ConfigError as error:
            queue = queue_name(self.address.token)
            sentence = f"The lease of queue {queue!r}, set by another runner, does not fit this one's."
            raise UnfitError(f"{sentence} {error.sentence}") from None

    def check(self) -> None:
        """Raise LeaseLostError if by the clock the job may not be started."""
        if not self.holds:
            self.lease.check()

    def see(self, job: Job | None) -> None:
        """React to the job's newest events."""
        if job is None or (job.terminal and not self.ending):
            self.ended_by_another.set()
            self.unwanted.set()
        elif job.kill_requested:
            self.killed.set()

    async def _keep(self) -> None:
        """Send heartbeats until cancelled. If this ends in any other way, the lease is lost: nobody renews it."""
        try:
            while True:
                await self._keep_until_lost()
        except LeaseLostError as error:
            log.warning("job given up", error=error.sentence)
        except Exception:
            log.exception("job given up: its heartbeat failed")
        self.lease.lost = True
        self.forfeited.set()

    async def _keep_until_lost(self) -> None:
        try:
            await self.lease.keep(self._look, self._pull_again)
        except LeaseLostError as error:
            if not self.holds:
                raise
            log.warning("lease lost, its queue waits for this runner", error=error.sentence)
        while self.lease.lost:  # the queue waits for this runner nevertheless
            await asyncio.sleep(self.lease.times.heartbeat)
            await self.lease.look(self._look)

    async def _pull_again(self) -> None:
        """The job's consumer is gone, so a new one delivers it next: the job is still the first of its queue.

        If another runner was faster, it gives the job back, and the old delivery renews that lease: the server
        identifies deliveries only by the consumer's name and the message's number.
        """
        pulled_at = boot_time()
        delivery = await self._queues.pull(self.address.token, PULL_WAIT)
        if delivery is None:
            return
        if delivery.subject == self.address.subject:
            log.warning("job pulled again: its consumer was gone")
            self.lease.take_delivery(delivery, pulled_at)
        else:
            await delivery.give_back()

    async def _look(self, *, at_least: int = 0) -> None:
        self.see(await self._events.load(self.address.job_id, at_least=at_least))

    async def _follow(self) -> None:
        """A live event is only a trigger: the log is read. Events that were missed are found by the next heartbeat.

        Before the claim nothing needs to be read at first: the claim is refused if an event was missed.
        """
        async with self._events.follow_kinds(self.address.token, self.address.job_id, *FOLLOWED) as changed:
            if self.claimed:
                await self._look()
            while True:
                await changed.wait()
                announced = changed.take()
                if not self.ending:
                    await self._look(at_least=announced)
                await asyncio.sleep(GAP)
