"""Lease, backlog, output and waiting: the small parts of a runner."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.chain import Chunk
from stint.core.errors import BrokerUnavailableError, ConfigError, EngineUnavailableError, LeaseLostError
from stint.core.events import AnyEvent
from stint.ports import Outcome
from stint.process.waiting import InterruptedByEventError, unless
from stint.testing import MemoryEventLog, MemoryOutput
from stint_runner.clock import boot_time
from stint_runner.dispatch.backlog import Backlog
from stint_runner.engine.port import OutputPiece
from stint_runner.lease.lease import Lease, LeaseTimes
from stint_runner.output.pieces import CHUNK_BYTES
from stint_runner.output.pump import OutputPump
from stint_runner.waiting import append_surely
from tests.support.events import TOKEN, started, submitted
from tests.support.outputs import written

JOB = "0" * 24


class Delivery:
    """A delivery whose renewals go as the test says."""

    subject = "ev.submitted.me.0"
    sequence = 1
    ack_subject = "ack"
    origin = "consumer"
    lease = 0.3
    count = 1

    def __init__(self, renew: Callable[[int], object]) -> None:
        self.renewals = 0
        self.acks = 0
        self._renew = renew

    async def renew(self) -> None:
        self.renewals += 1
        answer = self._renew(self.renewals)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)

    async def ack(self) -> None:
        self.acks += 1

    async def give_back(self, delay: float = 0) -> None:
        raise AssertionError(delay)


async def _nothing() -> None:
    return


TIMES = LeaseTimes(lease=0.3, takeover=15)


def test_the_default_times_are_those_of_the_design() -> None:
    times = LeaseTimes(lease=30, takeover=15)
    times.check()
    shown = (times.heartbeat, times.request_timeout, times.fence, times.fence_grace, times.watchdog, times.margin)
    assert shown == (5, 2, 15, 6, 30, 2)


@pytest.mark.parametrize(("lease", "takeover"), [(30.0, 12.9), (120.0, 15.0), (30.0, 1.0)])
def test_times_that_break_the_promise_are_refused_with_the_sum(lease: float, takeover: float) -> None:
    with pytest.raises(ConfigError, match=r"K \+ δ <= .*T must hold, but .* s is more than .* s"):
        LeaseTimes(lease=lease, takeover=takeover).check()


async def test_a_lease_is_renewed_and_looks_at_the_log_each_time() -> None:
    delivery, looks = Delivery(lambda _: None), asyncio.Semaphore(0)

    async def look() -> None:
        looks.release()

    keeping = asyncio.create_task(Lease(delivery, takeover=15, confirmed=boot_time()).keep(look))
    for _ in range(3):
        await looks.acquire()
    keeping.cancel()
    assert delivery.renewals == 3


async def test_a_lease_that_cannot_be_renewed_is_lost_at_the_fence() -> None:
    lease = Lease(Delivery(lambda _: BrokerUnavailableError()), takeover=15, confirmed=boot_time())
    begun = boot_time()
    with pytest.raises(LeaseLostError):
        await lease.keep(_nothing)
    assert TIMES.fence <= boot_time() - begun < TIMES.lease
    with pytest.raises(LeaseLostError):
        await lease.ack()


async def test_one_failed_renewal_is_no_loss() -> None:
    looked = asyncio.Event()

    async def look() -> None:
        looked.set()

    lease = Lease(Delivery(lambda n: BrokerUnavailableError() if n == 1 else None), takeover=15, confirmed=boot_time())
    keeping = asyncio.create_task(lease.keep(look))
    await asyncio.wait({keeping, asyncio.create_task(looked.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert not lease.lost
    keeping.cancel()


async def test_a_late_answer_is_no_proof_of_a_lease() -> None:
    """The server answers renewals of leases that are over."""
    lease = Lease(Delivery(lambda _: None), takeover=15, confirmed=boot_time() - TIMES.lease)
    with pytest.raises(LeaseLostError):
        await lease.keep(_nothing)


async def test_a_log_that_cannot_be_read_does_not_end_the_lease() -> None:
    delivery = Delivery(lambda n: BrokerUnavailableError() if n > 3 else None)

    async def look() -> None:
        raise BrokerUnavailableError

    with pytest.raises(LeaseLostError):
        await Lease(delivery, takeover=15, confirmed=boot_time()).keep(look)
    assert delivery.renewals > 3


# --- backlog ----------------------------------------------------------------------------------------------------


async def test_queues_come_in_turn_and_once() -> None:
    backlog = Backlog()
    for token in ("a", "b", "a", "c", "b"):
        await backlog.add(token)
    assert [await backlog.take() for _ in range(3)] == ["a", "b", "c"]
    assert len(backlog) == 0


async def test_a_queue_that_is_taken_comes_back_after_its_release() -> None:
    backlog = Backlog()
    await backlog.add("a")
    assert await backlog.take() == "a"
    await backlog.add("a")
    assert len(backlog) == 0, "one slot a queue"
    await backlog.add("b")
    await backlog.release("a", again=False)
    assert [await backlog.take(), await backlog.take()] == ["b", "a"]
    await backlog.release("a", again=False)
    await backlog.release("b", again=True)
    assert await backlog.take() == "b"
    assert len(backlog) == 0


async def test_whoever_waits_is_woken() -> None:
    backlog = Backlog()
    taking = [asyncio.create_task(backlog.take()) for _ in range(2)]
    await backlog.add("a")
    await backlog.add("b")
    assert sorted(await asyncio.gather(*taking)) == ["a", "b"]


# --- output -----------------------------------------------------------------------------------------------------


async def _pieces(*pieces: OutputPiece) -> AsyncIterator[OutputPiece]:
    for piece in pieces:
        yield piece


async def _copied(log: MemoryOutput, *pieces: OutputPiece) -> tuple[OutputPump, list[Chunk]]:
    pump = OutputPump(log, TOKEN, JOB)
    await pump.copy(_pieces(*pieces))
    return pump, [chunk async for chunk in log.read(TOKEN, JOB)]


PIECES = st.lists(st.builds(OutputPiece, st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=40)))


@given(PIECES)
async def test_output_is_whole_in_order_and_chained(pieces: list[OutputPiece]) -> None:
    pump, chunks = await _copied(MemoryOutput(), *pieces)
    assert b"".join(chunk.data for chunk in chunks) == b"".join(piece.data for piece in pieces)
    for stream in ("stdout", "stderr"):
        assert b"".join(c.data for c in chunks if c.stream == stream) == b"".join(
            p.data for p in pieces if p.stream == stream
        )
    digest, offset = "", 0
    for number, chunk in enumerate(chunks, start=1):
        digest = hashlib.sha256(digest.encode() + chunk.data).hexdigest()
        assert (chunk.number, chunk.offset, chunk.digest) == (number, offset, digest)
        offset += len(chunk.data)
    assert (pump.chunks, pump.size, pump.digest) == (len(chunks), offset, digest)


async def test_a_flood_goes_in_large_chunks() -> None:
    _, chunks = await _copied(MemoryOutput(), *[OutputPiece("stdout", b"x" * 1024)] * 1000)
    assert len(chunks) < 50
    assert max(len(chunk.data) for chunk in chunks) <= 2 * CHUNK_BYTES


async def test_what_had_come_is_stored_when_the_output_breaks_off() -> None:
    async def breaking() -> AsyncIterator[OutputPiece]:
        for number in range(60):
            yield OutputPiece("stdout" if number % 2 else "stderr", b"%d\n" % number)
        raise EngineUnavailableError

    log = MemoryOutput()
    with pytest.raises(EngineUnavailableError):
        await OutputPump(log, TOKEN, JOB).copy(breaking())
    stored = b"".join([chunk.data async for chunk in log.read(TOKEN, JOB)])
    assert stored == b"".join(b"%d\n" % number for number in range(60))


async def test_a_trickle_arrives_at_once() -> None:
    log, more = MemoryOutput(), asyncio.Event()

    async def trickle() -> AsyncIterator[OutputPiece]:
        yield OutputPiece("stdout", b"first\n")
        await more.wait()

    async with written(log, TOKEN, JOB) as tail:
        copying = asyncio.create_task(OutputPump(log, TOKEN, JOB).copy(trickle()))
        assert (await anext(tail)).data == b"first\n"
        more.set()
        await copying


async def test_output_waits_for_a_broker_that_is_away() -> None:
    class Flaky(MemoryOutput):
        failures = 2

        async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
            if self.failures:
                self.failures -= 1
                raise BrokerUnavailableError
            return await super().append(token, job_id, chunk, after=after)

    _, chunks = await _copied(Flaky(), OutputPiece("stdout", b"x"))
    assert [chunk.data for chunk in chunks] == [b"x"]


# --- waiting ----------------------------------------------------------------------------------------------------


async def test_work_that_is_done_first_wins() -> None:
    async def work() -> int:
        return 7

    assert await unless(asyncio.Event(), work()) == 7


async def test_an_event_cancels_the_work_and_lets_it_clean_up() -> None:
    event, begun, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    waiting = asyncio.create_task(unless(event, work()))
    await begun.wait()
    event.set()
    with pytest.raises(InterruptedByEventError):
        await waiting
    assert cleaned.is_set()


async def test_an_append_is_repeated_until_its_outcome_is_known() -> None:
    class Doubtful(MemoryEventLog):
        doubts = 2

        async def append(self, token: str, job_id: str, *events: AnyEvent, after: int | None = None) -> Outcome:
            outcome = await super().append(token, job_id, *events, after=after)
            self.doubts -= 1
            return outcome if self.doubts < 0 else Outcome.UNKNOWN

    log = Doubtful()
    assert await append_surely(log, TOKEN, JOB, submitted()) is Outcome.WON
    assert await append_surely(log, TOKEN, JOB, started()) is Outcome.WON
    assert await append_surely(log, TOKEN, JOB, started("another")) is Outcome.LOST
