"""A job under its lease: what happens when the heartbeat, or what stands behind it, fails."""

import asyncio
from collections.abc import Callable

import pytest

from stint.core.errors import ConsumerGoneError, LeaseLostError
from stint.core.job import Job
from stint.core.subjects import EventAddress
from stint.ports import Delivery
from stint.testing import MemoryEventLog
from stint_runner.clock import boot_time
from stint_runner.lease.lease import Lease
from stint_runner.lease.leased_job import LeasedJob
from tests.support.events import TOKEN

ADDRESS = EventAddress("submitted", TOKEN, "0" * 24)


class FakeDelivery:
    """A delivery whose renewals go as the test says."""

    sequence = 1
    ack_subject = "ack"
    origin = "consumer"
    count = 1

    def __init__(
        self, renew: Callable[[], None] = lambda: None, *, subject: str = ADDRESS.subject, lease: float = 1.2
    ) -> None:
        self.lease = lease
        self.subject = subject
        self.renewals = asyncio.Semaphore(0)
        self.given_back = asyncio.Event()
        self._renew = renew

    async def renew(self) -> None:
        self._renew()
        self.renewals.release()

    async def ack(self) -> None:
        raise AssertionError

    async def give_back(self, delay: float = 0) -> None:
        del delay
        self.given_back.set()


class FakeQueues:
    """Hands out what the test says, or nothing."""

    def __init__(self, *deliveries: Delivery) -> None:
        self._deliveries = list(deliveries)

    async def pull(self, token: str, wait: float) -> Delivery | None:
        del token, wait
        return self._deliveries.pop(0) if self._deliveries else None


def leased(delivery: FakeDelivery, *pulled: FakeDelivery, events: MemoryEventLog | None = None) -> LeasedJob:
    lease = Lease(delivery, takeover=15, confirmed=boot_time())
    return LeasedJob(events or MemoryEventLog(), FakeQueues(*pulled), ADDRESS, lease)  # type: ignore[arg-type] # a pull is all


def gone() -> None:
    raise ConsumerGoneError


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("fault", [ZeroDivisionError(), KeyError("x")], ids=repr)
async def test_a_heartbeat_that_fails_in_any_way_forfeits_the_lease_at_once(
    fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(MemoryEventLog):
        async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
            del job_id, at_least
            raise fault

    job = leased(FakeDelivery(lease=12), events=Broken())
    begun = boot_time()
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLostError):
            async with job.kept():
                await for_ever()
    assert job.forfeited.is_set()
    assert job.lease.lost
    assert boot_time() - begun < job.lease.times.fence
    assert "its heartbeat failed" in capsys.readouterr().out


async def test_a_live_feed_that_fails_does_not_end_the_job() -> None:
    class Broken(MemoryEventLog):
        def follow(self, job_id: str) -> None:  # type: ignore[override]
            raise ZeroDivisionError(job_id)

    delivery = FakeDelivery()
    job = leased(delivery, events=Broken())

    async def three_renewals() -> None:
        for _ in range(3):
            await delivery.renewals.acquire()

    async with asyncio.timeout(10):
        async with job.kept():
            await three_renewals()
    assert not job.forfeited.is_set()


async def test_a_job_whose_consumer_is_gone_is_pulled_again() -> None:
    again = FakeDelivery()
    job = leased(FakeDelivery(gone), again)

    async def renewed() -> None:
        await again.renewals.acquire()

    async with asyncio.timeout(10):
        async with job.kept():
            await renewed()
    assert job.lease.delivery is again


async def test_another_job_that_comes_instead_is_given_back_and_the_lease_ends() -> None:
    stranger = FakeDelivery(subject="ev.submitted.me.1")
    job = leased(FakeDelivery(gone), stranger)
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLostError):
            async with job.kept():
                await for_ever()
    assert stranger.given_back.is_set()
    assert job.forfeited.is_set()
