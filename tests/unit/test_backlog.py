"""The queues that wait for a runner's slots, and waiting itself."""

import asyncio

import pytest

from stint.core.events import AnyEvent
from stint.ports import Outcome
from stint.process.waiting import InterruptedByEventError, unless
from stint.testing import MemoryEventLog
from stint_runner.dispatch.worker import Backlog
from stint_runner.retry import append_events
from tests.support.events import TOKEN, started, submitted


async def test_queues_come_in_turn_and_once() -> None:
    backlog = Backlog()
    for token in ("a", "b", "a", "c", "b"):
        backlog.add(token)
    assert [await backlog.take() for _ in range(3)] == ["a", "b", "c"]
    assert len(backlog) == 0


async def test_a_queue_that_is_taken_comes_back_after_its_release() -> None:
    backlog = Backlog()
    backlog.add("a")
    assert await backlog.take() == "a"
    backlog.add("a")
    assert len(backlog) == 0, "one slot a queue"
    backlog.add("b")
    backlog.release("a", again=False)
    assert [await backlog.take(), await backlog.take()] == ["b", "a"]
    backlog.release("a", again=False)
    backlog.release("b", again=True)
    assert await backlog.take() == "b"
    assert len(backlog) == 0


async def test_whoever_waits_is_woken() -> None:
    backlog = Backlog()
    taking = [asyncio.create_task(backlog.take()) for _ in range(2)]
    backlog.add("a")
    backlog.add("b")
    assert sorted(await asyncio.gather(*taking)) == ["a", "b"]


async def test_work_that_is_done_first_wins() -> None:
    assert await unless(asyncio.Event(), asyncio.sleep(0, 7)) == 7


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
    assert await append_events(log, TOKEN, "0" * 24, submitted())
    assert await append_events(log, TOKEN, "0" * 24, started())
    assert not await append_events(log, TOKEN, "0" * 24, started("another"))
