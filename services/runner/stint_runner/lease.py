"""How long a runner may believe that a job is its own.

JetStream does not fence: it answers renewals of leases that are over and takes late acks. So the runner itself decides,
by its own clock, from the moment it sent its last confirmed renewal.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import msgspec

from stint.errors import BrokerUnavailableError, ConfigError, LeaseLostError, StintError
from stint.eventlog import Delivery

KILL: Final = 5.0
"""K: seconds for a SIGKILL to have worked, 0.84 measured for 20 containers at once."""
CLOCK_SKEW: Final = 1.0
"""δ: seconds for clocks that run at different speeds, and for scheduling."""
SERVER_MARGIN: Final = 2.0
"""S: seconds by which a server's restart can shorten a lease (up to 1 was measured)."""


class LeaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a lease, in seconds, all derived from two.

    Attributes:
        lease: L, how long the server leaves a delivery to its holder after a renewal.
        takeover: T, how long a successor waits after the holder is given up.
    """

    lease: float
    takeover: float

    @property
    def heartbeat(self) -> float:
        """h: between two renewals."""
        return self.lease / 6

    @property
    def request_timeout(self) -> float:
        """r: for one renewal's answer."""
        return self.lease / 15

    @property
    def fence(self) -> float:
        """F: after this long without a confirmed renewal the holder stops its container."""
        return self.lease / 2

    @property
    def fence_grace(self) -> float:
        """G_f: between that SIGTERM and SIGKILL."""
        return self.lease / 3

    @property
    def watchdog(self) -> float:
        """W: after this long a watchdog kills a runner that hangs."""
        return self.lease * 5 / 6

    @property
    def margin(self) -> float:
        """S, scaled down for leases that are shorter than the default 30 s."""
        return min(SERVER_MARGIN, self.lease / 15)

    def check(self) -> None:
        """The inequalities on which the promise of one job at a time rests.

        Raises:
            ConfigError: one does not hold; spells out the sum.
        """
        over = self.lease - self.margin + self.takeover
        told = self.heartbeat + self.request_timeout + KILL + CLOCK_SKEW
        _require(self.fence + self.fence_grace + KILL + CLOCK_SKEW, over, "F + G_f + K + δ", "L - S + T")
        _require(told, self.takeover, "h + r + K + δ", "T")
        _require(self.watchdog + KILL + CLOCK_SKEW, over, "W + K + δ", "L - S + T")
        _require(2 * self.heartbeat + self.request_timeout, self.fence, "2h + r", "F")


def _require(left: float, right: float, left_text: str, right_text: str) -> None:
    if left > right:
        raise ConfigError(
            f"STINT_LEASE and STINT_TAKEOVER do not fit: {left_text} <= {right_text} must hold, "
            f"but {left:g} s is more than {right:g} s."
        )


class Lease:
    """One delivery, kept by heartbeats."""

    def __init__(self, delivery: Delivery, times: LeaseTimes, *, confirmed: float) -> None:
        """`confirmed` is the loop's time at which the pull that brought the delivery was sent."""
        self.delivery = delivery
        self.times = times
        self.lost = False
        self._confirmed = confirmed
        self._now = asyncio.get_running_loop().time

    async def keep(self, after_each: Callable[[], Awaitable[None]]) -> None:
        """Renew until cancelled, calling back after each renewal.

        Raises:
            LeaseLostError: the lease must be taken for lost. Nothing may be renewed or acknowledged any more.
        """
        pause = self.times.heartbeat
        while True:
            await asyncio.sleep(min(pause, self._until_fence()))
            if self._until_fence() <= 0:
                self._lose("It could not be renewed.")
            if await self._renew():
                await self._call(after_each)
                pause = self.times.heartbeat
            else:
                pause = self.times.heartbeat / 5

    def _until_fence(self) -> float:
        return max(0.0, self._confirmed + self.times.fence - self._now())

    async def _renew(self) -> bool:
        """Whether a renewal was confirmed. An answer that comes too late is no proof of a lease."""
        sent = self._now()
        try:
            async with asyncio.timeout(self.times.request_timeout):
                await self.delivery.renew()
        except (BrokerUnavailableError, TimeoutError):
            return False
        if self._now() >= self._confirmed + self.times.lease - self.times.margin:
            self._lose("The renewal was confirmed too late.")
        self._confirmed = sent
        return True

    async def _call(self, after_each: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self.times.request_timeout):
                await after_each()
        except (StintError, TimeoutError):
            return  # not to know is no loss of the lease; the next heartbeat asks again

    def _lose(self, sentence: str) -> NoReturn:
        self.lost = True
        raise LeaseLostError(f"The lease is lost: {sentence}")

    async def ack(self) -> None:
        """The job has ended: let the queue go on.

        Raises:
            LeaseLostError: the delivery is not ours any more.
        """
        if self.lost:
            raise LeaseLostError
        await self.delivery.ack()

    async def give_back(self) -> None:
        """Leave the job to another runner.

        Raises:
            LeaseLostError: it is another's already.
        """
        if self.lost:
            raise LeaseLostError
        await self.delivery.give_back()
