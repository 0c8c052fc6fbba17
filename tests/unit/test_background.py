"""The tasks that run beside a service, and what it says of those that end, or fail each time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from stint.core.errors import BrokerUnavailableError
from stint.process import background, waiting
from stint.process.background import FAILING, RESTART_PAUSE, STEADY, Background, BackgroundTask, Rounds
from stint.process.health import readyz
from stint.process.waiting import repeat

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


async def test_a_part_that_fails_in_each_round_for_minutes_is_named_while_the_service_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a sweep whose rights were taken away: it runs, and there is nothing else to see of it than warnings."""
    monkeypatch.setattr(waiting, "RETRY_PAUSE", 0.0)
    now, fails, round_ended = 0.0, True, asyncio.Event()

    async def sweep() -> None:
        round_ended.set()
        if fails:
            raise BrokerUnavailableError

    async def rounds() -> None:
        for _ in range(2):  # the first of them may have begun before
            round_ended.clear()
            await round_ended.wait()

    async def run() -> NoReturn:
        await repeat(sweep, lambda: 0.0, failed="sweep failed")

    parts = Background(BackgroundTask(name="sweep", run=run, missing=MISSING), monotonic=lambda: now)
    ready = Route("/readyz", readyz(lambda: asyncio.sleep(0, ""), parts.failing))
    http = httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=[ready])), base_url="http://x")
    async with parts.running(), http, asyncio.timeout(5):
        for _ in range(int(FAILING // 50)):
            await rounds()
            assert (await http.get("/readyz")).text == "ready\n"
            now += 50
        await rounds()
        assert parts.missing() == ""
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.text) == (200, f"ready\n{MISSING}\n")
        fails = False
        await rounds()
        assert parts.failing() == []


def test_rounds_that_take_minutes_until_they_fail_are_told() -> None:
    """As an audit that compares all views before it finds that it may not read the output."""
    now = 0.0
    rounds = Rounds(lambda: now)
    for _ in range(3):
        assert not rounds.is_failing()
        now += FAILING / 2
        rounds.ended("compared", failed=True)
    assert rounds.is_failing()


def test_a_round_without_an_end_works_once_it_has_run_for_some_time() -> None:
    now = 0.0
    rounds = Rounds(lambda: now)
    for _ in range(int(FAILING // 50) + 1):
        rounds.ended("followed", failed=True)
        now += 50
    assert rounds.is_failing()
    now += FAILING
    assert not rounds.is_failing()
    rounds.ended("followed", failed=True)
    assert not rounds.is_failing(), "this is the first one of others"
