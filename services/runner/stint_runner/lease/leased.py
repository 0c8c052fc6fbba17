"""A delivery that this runner has: its lease kept, its job's facts watched."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Final

import structlog

from stint.core.errors import LeaseLostError
from stint.core.subjects import EventAddress
from stint.ports import Delivery, EventLog, WorkQueues
from stint.process.waiting import InterruptedByEventError, again_and_again, unless
from stint_runner.clock import boot_time
from stint_runner.lease.lease import Lease
from stint_runner.lease.watch import Watch

log = structlog.get_logger()

PULL_WAIT: Final = 0.1
"""Seconds that a pull waits where the queue turns out to be empty or busy."""


class Leased:
    """One job, for as long as this runner sees to it.

    Attributes:
        address: where its submission stands.
        lease: of its newest delivery.
        watch: what the log says of it.
        holds: its queue waits for this runner: it may go on without a lease.
        forfeited: the lease was lost, and whatever is done for the job must end.
        done: nothing is done for it any more.
    """

    def __init__(self, events: EventLog, queues: WorkQueues, address: EventAddress, lease: Lease) -> None:
        self.address = address
        self.lease = lease
        self.watch = Watch()
        self.holds = False
        self.forfeited = asyncio.Event()
        self.done = asyncio.Event()
        self._events = events
        self._queues = queues

    async def see_through(self, work: Awaitable[None]) -> None:
        """Keep the lease alive and the log in view while the work is done. It is cancelled when the lease is lost."""
        keeping = asyncio.create_task(self._keep())
        following = asyncio.create_task(
            again_and_again(self._follow, lambda: self.lease.times.heartbeat / 5, failed="live facts not followed")
        )
        try:
            with contextlib.suppress(InterruptedByEventError):
                await unless(self.forfeited, work)
        finally:
            keeping.cancel()
            following.cancel()
            await asyncio.gather(keeping, following, return_exceptions=True)
            self.done.set()

    async def carry_on(self, delivery: Delivery, pulled_at: float) -> bool:
        """Take a newer delivery of the same job. False, once nothing is done for it any more, if it came too late."""
        if not self.forfeited.is_set():
            log.info("job delivered again to its own runner")
            self.lease.carry_on(delivery, pulled_at)
            return True
        await self.done.wait()
        return False

    def check(self) -> None:
        """Return if the job may be started by the clock.

        Raises:
            LeaseLostError: it may not.
        """
        if not self.holds:
            self.lease.check()

    async def _keep(self) -> None:
        """Send heartbeats until cancelled. However else it ends, the lease is forfeited: nobody renews it any more."""
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
        while self.lease.lost:  # the queue waits for this runner all the same
            await asyncio.sleep(self.lease.times.heartbeat)
            await self.lease.look(self._look)

    async def _pull_again(self) -> None:
        """The job's consumer is gone, so a new one delivers it next: the job is still the first of its queue.

        If another runner has pulled it before, it gives it back, and the old delivery renews that one: the server knows
        deliveries by the consumer's name and the message's number alone.
        """
        pulled_at = boot_time()
        delivery = await self._queues.pull(self.address.token, PULL_WAIT)
        if delivery is None:
            return
        if delivery.subject == self.address.subject:
            log.warning("job pulled again: its consumer was gone")
            self.lease.carry_on(delivery, pulled_at)
        else:
            await delivery.give_back()

    async def _look(self) -> None:
        self.watch.see(await self._events.load(self.address.job_id))

    async def _follow(self) -> None:
        """A live fact is only a trigger; what counts is read from the log. One that is missed, a heartbeat finds."""
        async with self._events.follow(self.address.job_id) as changed:
            while True:
                changed.clear()
                await self._look()
                await changed.wait()
