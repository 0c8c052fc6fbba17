"""What is done for a job now: told by its runner, remembered by the API."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.phase import JobPhase
from stint.ports import Place
from stint.process.background import cancel
from stint.testing import MemoryPhases
from stint_api.read import phases as heard
from stint_runner import phases
from stint_runner.engine.pull_progress import PullProgress
from tests.support.faults import failing
from tests.support.waiting import meanwhile

PLACE = Place("q", "0" * 24)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "PAUSE", 0.0)


async def test_a_change_is_told_and_what_is_over_is_not() -> None:
    channel, other = MemoryPhases(), PLACE._replace(job_id="1" * 24)
    mine = phases.Phases(channel)
    async with channel.hear() as told:
        telling = asyncio.create_task(mine.run())
        with mine.of(PLACE) as report:
            assert (await anext(told)).phase == JobPhase(phase="opening")
            report("pulling", 0.5)
            assert (await anext(told)).phase == JobPhase(phase="pulling", progress=0.5)
        with mine.of(other):
            assert (await anext(told)).place.job_id == other.job_id
        await cancel(telling)
        await channel.tell(PLACE, JobPhase(phase="running"))
        assert (await anext(told)).phase.phase == "running", "nothing was told in between"


async def test_what_was_not_told_is_told_when_everything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "AGAIN", 0.01)
    channel = MemoryPhases()
    monkeypatch.setattr(channel, "tell", failing(channel.tell, BrokerUnavailableError()))
    mine = phases.Phases(channel)
    async with channel.hear() as told, meanwhile(mine.run()):
        with mine.of(PLACE):
            for _ in range(2):
                assert (await anext(told)).place == PLACE


async def test_the_last_report_counts_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "SIZE", 2)
    now = 0.0
    connected, channel = asyncio.Event(), MemoryPhases()
    known = heard.Phases(channel, connected=connected.wait, monotonic=lambda: now)
    listening = asyncio.create_task(known.run())
    connected.set()
    await channel.heard.wait()
    a, b, c = (Place("q", job_id) for job_id in "abc")
    with known.watch(a) as news:
        for place in (a, b, a, c):
            await channel.tell(place, JobPhase(phase="running" if news.is_set() else "creating"))
            if place == a:
                await news.wait()
    await channel.tell(c, JobPhase(phase="opening"))
    with known.watch(c) as last:
        await last.wait()
    assert [phase and phase.phase for phase in map(known.of, (a, b, c))] == ["running", None, "opening"]
    assert known.of(Place("another", "a")) is None, "the report was of a job in another queue"
    now = heard.GOOD
    assert known.of(a) is None
    with known.watch(b) as news:
        await channel.tell(b, JobPhase(phase="running"))
        await news.wait()
    assert [*known._heard] == [b], "what does not count any more is forgotten"  # noqa: SLF001 - nothing else tells it
    await cancel(listening)


@pytest.mark.parametrize(
    ("lines", "done"),
    [
        ([("", "Pulling from library/busybox", {})], 0.0),
        ([("a", "Pulling fs layer", {}), ("b", "Already exists", {})], 0.5),
        ([("a", "Downloading", {"current": 30, "total": 60}), ("b", "Pulling fs layer", {})], 0.125),
        ([("a", "Downloading", {"current": 10, "total": 10}), ("b", "Downloading", {"current": 0, "total": 90})], 0.05),
        ([("a", "Download complete", {}), ("a", "Extracting", {"current": 5, "total": 10})], 0.75),
        ([("a", "Pull complete", {}), ("", "Status: Downloaded newer image", {}), ("x", "unknown", {})], 1.0),
        ([("a", "Extracting", {"current": 7, "units": "s"})], 0.5),
    ],
)
def test_how_much_of_a_pull_is_done(lines: Sequence[tuple[str, str, dict[str, Any]]], done: float) -> None:
    pull = PullProgress()
    told = [
        pull.after(json.dumps({"id": layer, "status": status, "progressDetail": detail}).encode())
        for layer, status, detail in lines
    ]
    assert told[-1] == pytest.approx(done)


@pytest.mark.parametrize(
    ("statuses", "waits"),
    [
        ([], False),
        (["Pulling fs layer"], False),
        (["Pulling fs layer", "Waiting"], False),
        (["Waiting", "Already exists"], True),
        (["Waiting", "Download complete"], False),
        (["Waiting", "Pull complete"], False),
        (["Waiting", "Downloading"], False),
        (["Waiting", "Extracting"], False),
        (["Pull complete"], False),
    ],
)
def test_a_pull_waits_for_others_until_it_loads_a_layer(statuses: Sequence[str], waits: bool) -> None:
    pull = PullProgress()
    pull.after(b'{"id": "latest", "status": "Pulling from app"}')
    for layer, status in enumerate(statuses):
        pull.after(json.dumps({"id": f"{layer}", "status": status}).encode())
    assert pull.waits == waits


@pytest.mark.soak
def test_a_pull_of_very_many_layers_takes_no_longer_for_each() -> None:
    """A line that costs as much as there are layers holds up the runner's other jobs for minutes."""
    lines = [
        json.dumps({"id": f"{layer:x}", "status": status, "progressDetail": detail}).encode()
        for status, detail in [
            ("Pulling fs layer", {}),
            ("Downloading", {"current": 333, "total": 1000}),
            ("Extracting", {"current": 777, "total": 1000}),
            ("Pull complete", {}),
        ]
        for layer in range(10_000)
    ]
    pull, begun = PullProgress(), time.process_time()
    told = [pull.after(line) for line in lines]
    assert time.process_time() - begun < 5
    assert told[-1] == 1
