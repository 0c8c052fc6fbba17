"""A lease, and a job under it: what happens when the heartbeat, or what stands behind it, fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import BrokerUnavailableError, ConfigError, ConsumerGoneError, LeaseLostError
from stint.core.job import Job
from stint.core.names.subjects import EventAddress
from stint.ports import Delivery, Look, News
from stint.testing import MemoryEventLog
from stint_runner.lease import lease as lease_module
from stint_runner.lease.lease import CLOCK_SKEW, KILL, Lease, LeaseTimes
from stint_runner.lease.leased_job import LeasedJob
from tests.support.events import TOKEN
from tests.support.virtual_time import in_virtual_time, now
from tests.support.waiting import meanwhile

virtually = in_virtual_time("stint_runner.lease.lease.boot_time", "stint_runner.lease.leased_job.boot_time")

ADDRESS = EventAddress("submitted", TOKEN, "0" * 24)


class FakeDelivery:
    """A delivery whose renewals, counted from 1, go as the test says."""

    sequence = 1
    ack_subject = "ack"
    origin = "consumer"
    after_expiry = False
    left: Look | None = None

    def __init__(
        self,
        renew: Callable[[int], Exception | None] = lambda _: None,
        *,
        subject: str = ADDRESS.subject,
        lease: float = 0.3,
    ) -> None:
        self.lease = lease
        self.subject = subject
        self.renewals = 0
        self.renewed = asyncio.Semaphore(0)
        self.given_back = asyncio.Event()
        self._renew = renew

    async def renew(self) -> None:
        self.renewals += 1
        if error := self._renew(self.renewals):
            raise error
        self.renewed.release()

    async def ack(self) -> None:
        raise AssertionError

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        del delay, hint
        self.given_back.set()

    def leased(self, since: float = 0) -> Lease:
        clock = lease_module.boot_time  # type: ignore[attr-defined] # the lease's own, which may be virtual
        return Lease(self, takeover=15, confirmed=clock() - since)


class FakeQueues:
    """Hands out what the test says, or nothing."""

    def __init__(self, *deliveries: Delivery) -> None:
        self._deliveries = list(deliveries)

    async def pull(self, token: str, wait: float) -> Delivery | None:
        del token, wait
        return self._deliveries.pop(0) if self._deliveries else None


class Slow(FakeDelivery):
    """One whose renewals are answered after their own time, each second one before the one before it."""

    sent = 0

    async def renew(self) -> None:
        self.sent += 1
        pause = 2.5 if self.sent % 2 else 0.5
        await asyncio.sleep(pause * LeaseTimes(lease=self.lease, takeover=15).request_timeout)
        await super().renew()


def leased_job(delivery: FakeDelivery, *pulled: FakeDelivery, events: MemoryEventLog | None = None) -> LeasedJob:
    queues = FakeQueues(*pulled)
    return LeasedJob(events or MemoryEventLog(), queues, ADDRESS, delivery.leased())  # type: ignore[arg-type] # a pull is all


def away(_renewal: int) -> Exception:
    return BrokerUnavailableError()


def gone(_renewal: int) -> Exception:
    return ConsumerGoneError()


async def nothing() -> None:
    return


TIMES = LeaseTimes(lease=0.3, takeover=15)


@pytest.mark.parametrize(
    ("lease", "takeover", "broken"),
    [
        (30.0, 12.9, r"h \+ r \+ K \+ δ <= T must hold, but 13 s is more than 12.9 s"),
        (120.0, 15.0, "must hold, but 34 s is more than 15 s"),
        (30.0, 1.0, "must hold, but 13 s is more than 1 s"),
        (0.5, 6.7, r"F \+ G_f \+ K \+ δ <= L - S \+ T must hold, but 7.25 s is more than 7.16667 s"),
    ],
)
def test_times_that_break_the_promise_are_refused_with_the_sum(lease: float, takeover: float, broken: str) -> None:
    with pytest.raises(ConfigError, match=broken):
        LeaseTimes(lease=lease, takeover=takeover).check()


@given(lease=st.floats(0.5, 1e9))
def test_what_is_not_checked_of_the_times_follows(lease: float) -> None:
    shortest = LeaseTimes(lease=lease, takeover=LeaseTimes(lease=lease, takeover=0).told)
    assert shortest.watchdog + KILL + CLOCK_SKEW <= lease - shortest.margin + shortest.takeover
    assert 2 * shortest.heartbeat + shortest.request_timeout <= shortest.fence


@virtually
async def test_a_lease_is_renewed_and_looks_at_the_log_each_time() -> None:
    """One renewal that fails is no loss."""
    delivery = FakeDelivery(lambda n: BrokerUnavailableError() if n == 1 else None, lease=0.6)
    looks = asyncio.Semaphore(0)

    async def look() -> None:
        looks.release()

    async with asyncio.timeout(10), meanwhile(delivery.leased().keep(look, nothing)):
        for _ in range(3):
            await looks.acquire()
    assert delivery.renewals == 4


@virtually
async def test_renewals_that_are_answered_late_keep_the_lease() -> None:
    """On a slow link the answer waits behind a payload or a job's output, for longer than a renewal's own time."""
    delivery, looks, confirmed = Slow(lease=3), asyncio.Semaphore(0), list[float]()
    lease, begun = delivery.leased(), now()
    lease.on_confirmed = confirmed.append

    async def look() -> None:
        looks.release()

    async with asyncio.timeout(10), meanwhile(lease.keep(look, nothing)):
        for _ in range(4):
            await looks.acquire()
    assert now() - begun > lease.times.fence
    assert len(confirmed) >= 4
    assert confirmed == sorted(confirmed)
    assert len(lease._unanswered) < len(confirmed)  # noqa: SLF001 - what is kept of each is inside


@virtually
async def test_a_lease_becomes_shorter_with_a_later_delivery_and_never_longer() -> None:
    """Its job's claim has told the first one, by which whoever takes the job over goes."""
    lease = FakeDelivery(lease=6).leased()
    for seconds in (3, 9):
        lease.take_delivery(FakeDelivery(lease=seconds), now())
        assert (lease.delivery.lease, lease.times.lease) == (seconds, 3)


@virtually
async def test_a_lease_that_cannot_be_renewed_is_lost_at_the_fence() -> None:
    lease, begun = FakeDelivery(away).leased(since=0.005), now()
    with pytest.raises(LeaseLostError):
        await lease.keep(nothing, nothing)
    assert now() - begun == pytest.approx(TIMES.fence - 0.005)


@virtually
async def test_a_runner_that_was_frozen_until_the_fence_starts_nothing_until_the_job_is_delivered_to_it_again() -> None:
    FakeDelivery(lease=6).leased(since=2.9).check()
    lease = FakeDelivery(lease=6).leased(since=3)
    with pytest.raises(LeaseLostError):
        lease.check()
    lease.confirmed = now()  # what is lost stays lost
    with pytest.raises(LeaseLostError):
        lease.check()
    with pytest.raises(LeaseLostError):
        await lease.give_back()
    lease.confirmed -= 3
    lease.take_delivery(FakeDelivery(lease=6), now())
    lease.check()


@virtually
async def test_a_delivery_is_not_used_within_the_servers_margin_of_its_leases_end() -> None:
    delivery = FakeDelivery(lease=6)
    await delivery.leased(since=5.5).give_back()
    assert delivery.given_back.is_set()
    with pytest.raises(LeaseLostError):
        await FakeDelivery(lease=6).leased(since=5.7).give_back()


@pytest.mark.parametrize("slept", ["before the renewal", "until its answer"])
@virtually
async def test_a_late_answer_is_no_proof_of_a_lease(slept: str) -> None:
    """The server answers renewals of leases that are over, and a machine can sleep in between."""

    def asleep(_renewal: int) -> None:
        if slept == "until its answer":
            lease.confirmed -= delivery.lease

    delivery = FakeDelivery(asleep, lease=1.2)
    lease = delivery.leased(since=delivery.lease if slept == "before the renewal" else 0)
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(lease.keep(nothing, nothing), 10)
    assert delivery.renewals == (slept == "until its answer")
    for late in (lease.ack, lease.give_back):
        with pytest.raises(LeaseLostError):
            await late()
    assert not delivery.given_back.is_set()


async def unreadable() -> None:
    raise BrokerUnavailableError


async def silent() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("look", [unreadable, silent])
@virtually
async def test_a_log_that_cannot_be_read_does_not_end_the_lease(look: Callable[[], Awaitable[None]]) -> None:
    delivery = FakeDelivery(lambda n: BrokerUnavailableError() if n > 3 else None, lease=1.8)
    with pytest.raises(LeaseLostError):
        await delivery.leased().keep(look, nothing)
    assert delivery.renewals > 3


@virtually
async def test_a_heartbeat_that_fails_in_any_way_forfeits_the_lease_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(MemoryEventLog):
        async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
            raise ZeroDivisionError(job_id, at_least)

    job = leased_job(FakeDelivery(lease=3), events=Broken())
    begun = now()
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLostError):
            async with job.kept():
                await asyncio.Event().wait()
    assert job.forfeited.is_set()
    assert job.lease.lost
    assert now() - begun < job.lease.times.fence
    assert "its heartbeat failed" in capsys.readouterr().out


@virtually
async def test_a_live_feed_that_fails_does_not_end_the_job() -> None:
    class Broken(MemoryEventLog):
        def follow_kinds(self, token: str, job_id: str, *kinds: str) -> None:  # type: ignore[override]
            raise ZeroDivisionError(token, job_id, kinds)

    delivery = FakeDelivery(lease=1.2)
    job = leased_job(delivery, events=Broken())
    async with asyncio.timeout(10), job.kept():
        for _ in range(3):
            await delivery.renewed.acquire()
    assert not job.forfeited.is_set()


@virtually
async def test_a_flood_of_live_events_causes_few_looks_at_the_log() -> None:
    looks, news = list[float](), News()

    class Flooded(MemoryEventLog):
        def follow_kinds(self, token: str, job_id: str, *kinds: str) -> nullcontext[News]:
            del token, job_id, kinds
            return nullcontext(news)

        async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
            looks.append(now())
            return await super().load(job_id, at_least=at_least)

    async with leased_job(FakeDelivery(lease=30), events=Flooded()).kept():
        for _ in range(1000):
            news.announce(0)
            await asyncio.sleep(0.001)
    assert 45 < len(looks) <= 51, "they go on, and no more often"


@pytest.mark.parametrize("link", [FakeDelivery, Slow])
@virtually
async def test_a_job_whose_consumer_is_gone_is_pulled_again(link: type[FakeDelivery]) -> None:
    """Also if a slow link tells late that it is gone."""
    again = FakeDelivery(lease=3)
    job = leased_job(link(gone, lease=3), again)
    async with asyncio.timeout(10), job.kept():
        await again.renewed.acquire()
    assert job.lease.delivery is again


def wrong(_renewal: int) -> Exception:
    return ValueError("no answer of NATS")


@virtually
async def test_a_renewal_that_fails_late_in_another_way_ends_the_lease_at_once() -> None:
    with pytest.raises(ValueError, match="no answer"):
        await Slow(wrong, lease=3).leased().keep(nothing, nothing)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no other renewal is waited for"


@virtually
async def test_another_job_that_comes_instead_is_given_back_and_the_lease_ends() -> None:
    stranger = FakeDelivery(subject="ev.1.me.submitted")
    job = leased_job(FakeDelivery(gone), stranger)
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLostError):
            async with job.kept():
                await asyncio.Event().wait()
    assert stranger.given_back.is_set()
    assert job.forfeited.is_set()
