"""How long a runner may assume that a job is its own.

JetStream does not fence: it answers renewals of expired leases and accepts late acks. So the runner itself decides,
by its own clock, from the moment it sent its last confirmed renewal.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn

import msgspec

from stint.core.errors import BrokerUnavailableError, ConfigError, ConsumerGoneError, LeaseLostError, StintError
from stint.ports import Delivery
from stint.process.background import cancel
from stint_runner.linux import boot_time

KILL: Final = 5.0  # K: seconds that a SIGKILL may take; 0.84 were measured for 20 containers at once
CLOCK_SKEW: Final = 1.0  # δ: seconds for clocks that run at different speeds, and for scheduling
SERVER_MARGIN: Final = 2.0  # S: seconds by which a server's restart can shorten a lease (up to 1 was measured)


class LeaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a lease, in seconds, all derived from two."""

    lease: float  # L, for how long a delivery is its holder's after a renewal
    takeover: float  # T, how long a runner that takes a job over waits before the queue continues

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
        """G_f: between that SIGTERM and SIGKILL, in whole seconds as engines take them."""
        return max(1.0, self.lease // 5)

    @property
    def watchdog(self) -> float:
        """W: after this long a watchdog kills a runner that hangs. Any other has stopped the job by F + G_f + K."""
        return self.lease

    @property
    def dead(self) -> float:
        """After this long without a confirmed renewal the job's container is gone, whatever became of its runner."""
        return max(self.fence + self.fence_grace, self.watchdog) + KILL + CLOCK_SKEW

    @property
    def told(self) -> float:
        """After this long a holder that reaches NATS has heard of the job's end, and its container is gone."""
        return self.heartbeat + self.request_timeout + KILL + CLOCK_SKEW

    @property
    def margin(self) -> float:
        """S, scaled down for leases that are shorter than the default 30 s."""
        return min(SERVER_MARGIN, self.lease / 15)

    def check(self) -> None:
        """Raise ConfigError, with the sum, unless the inequalities hold on which "one job at a time" depends.

        `W + K + δ <= L - S + T` and `2h + r <= F` follow from these two.
        """
        over = self.lease - self.margin + self.takeover
        _require(self.fence + self.fence_grace + KILL + CLOCK_SKEW, over, "F + G_f + K + δ", "L - S + T")
        _require(self.told, self.takeover, "h + r + K + δ", "T")


def _require(left: float, right: float, left_text: str, right_text: str) -> None:
    if left > right:
        raise ConfigError(
            f"STINT_LEASE and STINT_TAKEOVER do not fit: {left_text} <= {right_text} must hold, "
            f"but {left:g} s is more than {right:g} s."
        )


class Lease:
    """One delivery, kept by heartbeats."""

    def __init__(self, delivery: Delivery, *, takeover: float, confirmed: float) -> None:
        """`confirmed` is when the pull that brought the delivery was sent; `takeover` is T."""
        self.delivery = delivery  # the newest delivery of the job
        self.times = LeaseTimes(lease=delivery.lease, takeover=takeover)
        self.confirmed = confirmed  # when the newest renewal was sent that was confirmed in time, by `boot_time`
        self.lost = False  # the job may be another runner's
        # Called with `confirmed` at each confirmation.
        self.on_confirmed: Callable[[float], object] = lambda _confirmed: None
        self._unanswered = set[asyncio.Task[Delivery | None]]()  # renewals that may still be confirmed

    async def keep(self, after_each: Callable[[], Awaitable[None]], pull_again: Callable[[], Awaitable[None]]) -> None:
        """Renew the lease until cancelled, and call `after_each` after each renewal.

        Raises LeaseLostError, after which nothing may be renewed or acknowledged.

        `pull_again` is called if the consumer is gone, and may call `take_delivery` with a delivery of a new one.
        """
        pause = self.times.heartbeat
        try:
            while True:
                await asyncio.sleep(min(pause, self._until_fence()))
                if self._until_fence() <= 0:
                    self._lose("It could not be renewed.")
                if await self._renew(pull_again):
                    await self.look(after_each)
                    pause = self.times.heartbeat
                else:
                    pause = self.times.heartbeat / 5
        finally:
            await cancel(*self._unanswered)

    def take_delivery(self, delivery: Delivery, confirmed: float) -> None:
        """The job was delivered to this runner again: that delivery counts from now on. Its lease may be shorter."""
        self.delivery = delivery
        self.shorten(delivery.lease)
        self.lost = False
        self._confirm(confirmed)

    def shorten(self, seconds: float) -> None:
        """Keep the lease as if it were not longer than this. It never grows: the job's claim tells others how long."""
        self.times = msgspec.structs.replace(self.times, lease=min(self.times.lease, seconds))

    def check(self) -> None:
        """Raise LeaseLostError if it is over by the clock: this process may have been frozen since the last renewal."""
        if self.lost or self._until_fence() <= 0:
            self._lose("It was not renewed in time.")

    def _until_fence(self) -> float:
        return self.confirmed + self.times.fence - boot_time()

    async def _renew(self, pull_again: Callable[[], Awaitable[None]]) -> bool:
        """Whether a renewal was confirmed: this one, or an earlier one whose answer was slow to arrive."""
        before, delivery = self.confirmed, self.delivery
        renewal = asyncio.create_task(self._ask(delivery, boot_time()))
        self._unanswered.add(renewal)
        await asyncio.wait({renewal}, timeout=self.times.request_timeout)
        answered = {asked for asked in self._unanswered if asked.done()}
        self._unanswered -= answered
        gone = [asked.result() for asked in answered]  # raises what went wrong in any other way
        if delivery in gone:
            await self.look(pull_again)
        return self.confirmed > before

    async def _ask(self, delivery: Delivery, sent: float) -> Delivery | None:
        """Renew once. Returns the delivery if its consumer is gone. An answer after the lease's end proves nothing."""
        try:
            await delivery.renew()
        except ConsumerGoneError:
            return delivery
        except BrokerUnavailableError:
            return None
        if delivery is self.delivery and boot_time() < self._end:
            self._confirm(max(sent, self.confirmed))
        return None

    @property
    def _end(self) -> float:
        return self.confirmed + self.times.lease - self.times.margin

    def _confirm(self, sent: float) -> None:
        self.confirmed = sent
        self.on_confirmed(sent)

    async def look(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call, within the time of a renewal, and ignore a failure."""
        with suppress(StintError, TimeoutError):  # the next heartbeat calls again
            async with asyncio.timeout(self.times.request_timeout):
                await call()

    def _lose(self, sentence: str) -> NoReturn:
        self.lost = True
        raise LeaseLostError(f"The lease is lost: {sentence}")

    async def ack(self) -> None:
        """Acknowledge: the job has ended, and its queue continues. Raises LeaseLostError if it is not ours any more."""
        self._check_end()
        await self.delivery.ack()

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        """Let another runner have the job: see `stint.ports.Delivery`. Raises LeaseLostError if it is another's."""
        self._check_end()
        await self.delivery.give_back(delay, hint=hint)

    def _check_end(self) -> None:
        if self.lost or boot_time() >= self._end:
            self._lose("It was over before the job was done.")
