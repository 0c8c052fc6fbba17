"""The memory that jobs share while they are prepared."""

import asyncio
from contextlib import suppress

import pytest

from stint_runner.inputs.memory import MemoryBudget


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(budget: MemoryBudget, size: int, order: list[int], until: asyncio.Event) -> None:
    with budget.share() as share:
        await share.take(size)
        order.append(size)
        await until.wait()


async def test_who_comes_first_is_served_first() -> None:
    budget, order = MemoryBudget(10), list[int]()
    events = [asyncio.Event() for _ in range(4)]
    sizes = zip((6, 5, 1, 4), events, strict=True)
    tasks = [asyncio.create_task(hold(budget, size, order, event)) for size, event in sizes]
    await settled()
    assert order == [6], "the small one does not overtake"
    events[0].set()
    await settled()
    assert (order, budget.free) == ([6, 5, 1, 4], 0)
    for event in events:
        event.set()
    await asyncio.gather(*tasks)
    assert budget.free == 10


async def test_what_is_not_needed_any_more_serves_others() -> None:
    budget, order, until = MemoryBudget(10), list[int](), asyncio.Event()
    with budget.share() as share:
        await share.take(11)  # more than there is means all of it
        waiting = asyncio.create_task(hold(budget, 7, order, until))
        await settled()
        share.shrink(4)
        await settled()
        assert order == []
        share.shrink(3)
        share.shrink(9)
        await settled()
        assert (order, budget.free) == ([7], 0)
    until.set()
    await waiting
    assert budget.free == 10


@pytest.mark.parametrize("at", ["waiting", "granted"])
async def test_a_cancelled_job_leaves_nothing_behind(at: str) -> None:
    budget, order, until = MemoryBudget(10), list[int](), asyncio.Event()
    with budget.share() as share:
        await share.take(10)
        leaving = asyncio.create_task(hold(budget, 9, order, until))
        behind = asyncio.create_task(hold(budget, 2, order, until))
        await settled()
        share.shrink(8 if at == "waiting" else 1)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        await settled()
        assert order == [2]
    until.set()
    await behind
    assert budget.free == 10
