import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stint.process import background
from stint.process.background import RESTART_PAUSE, STEADY, Background, BackgroundTask

MISSING = "The list is not there."


class Scripted:
    """A part that does what its script says, once for each start."""

    def __init__(self, *script: Callable[[], Awaitable[None]]) -> None:
        self._script = iter(script)
        self.started: asyncio.Queue[int] = asyncio.Queue()
        self.works = True
        self.now = 0.0

    async def run(self) -> None:
        self.started.put_nowait(0)
        await next(self._script)()

    def background(self) -> Background:
        part = BackgroundTask(name="list", run=self.run, missing=MISSING, works=lambda: self.works)
        return Background(part, monotonic=lambda: self.now)


async def die() -> None:
    raise ZeroDivisionError


async def end() -> None:
    pass


async def live() -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RESTART_PAUSE", 0.0)


async def test_a_part_works_from_its_start_on_if_it_says_so() -> None:
    scripted = Scripted(live)
    parts = scripted.background()
    assert parts.missing() == MISSING, "not started"
    async with parts.running(), asyncio.timeout(5):
        await scripted.started.get()
        assert parts.missing() == ""
        scripted.works = False
        assert parts.missing() == MISSING


@pytest.mark.parametrize("first", [die, end])
async def test_a_part_that_ends_is_missing_and_started_again(first: Callable[[], Awaitable[None]]) -> None:
    scripted = Scripted(first, live)
    parts = scripted.background()
    async with parts.running(), asyncio.timeout(5):
        await scripted.started.get()
        await scripted.started.get()
        assert parts.missing() == MISSING, "who knows whether it will stay"
        scripted.now = STEADY + RESTART_PAUSE
        assert parts.missing() == ""


async def test_a_part_that_fails_each_time_never_counts_as_working_and_ends_with_the_block() -> None:
    scripted = Scripted(die, die, die, live)
    parts = scripted.background()
    async with parts.running(), asyncio.timeout(5):
        for _ in range(3):
            await scripted.started.get()
            assert parts.missing() == MISSING
            scripted.now += STEADY / 2
        await scripted.started.get()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "list"]
