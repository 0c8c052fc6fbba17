"""What jobs share on a machine: the engine's disk, and the memory in which they are prepared."""

import asyncio
from contextlib import suppress

import pytest

from stint.core.errors import EngineError, UnfitError
from stint_runner.engine import space
from stint_runner.engine.port import PullError
from stint_runner.engine.space import FULL, PAUSE, EngineSpace
from stint_runner.inputs.memory import MemoryBudget

NO_ROOM = "write /x: no space left on device"


def not_made(disk: EngineSpace, error: str) -> None:
    with suppress(EngineError), disk.needed():
        raise EngineError(error)


@pytest.mark.parametrize("no_room", [NO_ROOM, f"{NO_ROOM}: unknown"])  # the latter is containerd's
def test_while_the_disk_is_full_one_job_a_pause_is_tried(monkeypatch: pytest.MonkeyPatch, no_room: str) -> None:
    now = 100.0
    monkeypatch.setattr(space, "boot_time", lambda: now)
    disk = EngineSpace()
    not_made(disk, "The image cannot be pulled.")
    disk.take_turn()
    assert not disk.missing()
    not_made(disk, no_room)
    for _ in range(2):
        assert disk.missing() == FULL
        for refuse in (disk.check, disk.take_turn):
            with pytest.raises(UnfitError, match=FULL):
                refuse()
        now += PAUSE
        for _ in range(2):
            disk.check()  # any number is examined, because not each can be claimed
        disk.take_turn()  # the next one tries
    not_made(disk, "no such volume")
    with pytest.raises(UnfitError):
        disk.check()
    disk.made()
    disk.check()
    assert not disk.missing()


LAYER = "failed to register layer:"
CONTAINERD = f"failed to extract layer sha256:{'a' * 64}:"


@pytest.mark.parametrize(
    ("last", "full"),
    [
        ("write /data/tmp/GetImageBlob1: no space left on device", True),
        (f"{LAYER} write /big: no space left on device", True),
        (f"{LAYER} open /many/31781: no space left on device", True),
        (f"{LAYER} lsetxattr user.x /f: no space left on device", False),
        ("failed to copy: failed to send write: write /ingest/1/data: no space left on device: unknown", True),
        (f"{CONTAINERD} write /snapshots/2/fs/big: no space left on device: unknown", True),
        (f'{CONTAINERD} mount callback failed on /m: failed to setxattr "/m/f" for key "user.x": {NO_ROOM}', False),
        (f"denied: {NO_ROOM}", False),
        (f"denied: no\n#2: {NO_ROOM}", False),
        ("manifest unknown", False),
    ],
)
def test_of_a_pull_only_docker_s_own_words_count(last: str, *, full: bool) -> None:
    """They are those of Docker 26, with either of its stores."""
    disk = EngineSpace()
    with suppress(PullError), disk.needed():
        raise PullError(f"All attempts fail:\n#1: {last}\nPulled without a login: none.", last=last)
    assert bool(disk.missing()) is full


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
