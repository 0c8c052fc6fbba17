"""A delivery that this runner has: its lease kept, its job's facts watched."""

import asyncio
from collections.abc import Awaitable

import structlog

from stint.errors import BrokerUnavailableError, LeaseLostError
from stint.eventlog import Delivery, EventLog
from stint.subjects import EventAddress
from stint.waiting import InterruptedByEventError, unless
from stint_runner.lease import Lease
from stint_runner.waiting import attempts
from stint_runner.watch import Watch

log = structlog.get_logger()


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

    def __init__(self, events: EventLog, address: EventAddress, lease: Lease) -> None:
        self.address = address
        self.lease = lease
        self.watch = Watch()
        self.holds = False
        self.forfeited = asyncio.Event()
        self.done = asyncio.Event()
        self._events = events

    async def see_through(self, work: Awaitable[None]) -> None:
        """Keep the lease alive and the log in view while the work is done. It is cancelled when the lease is lost."""
        keeping, following = asyncio.create_task(self._keep()), asyncio.create_task(self._follow())
        try:
            await unless(self.forfeited, work)
        except InterruptedByEventError:
            log.warning("job given up: its lease is lost")
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
        while True:
            while self.lease.lost:
                await asyncio.sleep(self.lease.times.heartbeat)
                await self.lease.look(self._look)
            try:
                await self.lease.keep(self._look)
            except LeaseLostError as error:
                log.warning("lease lost", error=error.sentence, held=self.holds)
                if not self.holds:
                    self.forfeited.set()
                    return

    async def _look(self) -> None:
        self.watch.see(await self._events.load(self.address.job_id))

    async def _follow(self) -> None:
        """A live fact is only a trigger; what counts is read from the log. One that is missed, a heartbeat finds."""
        async for attempt in attempts(on=BrokerUnavailableError):
            with attempt:
                async with self._events.follow(self.address.job_id) as changed:
                    while True:
                        changed.clear()
                        await self._look()
                        await changed.wait()
