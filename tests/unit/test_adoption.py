"""What a runner makes of a job that it did not start: of which only the container is left, or whose runner was lost."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stint.core.job import State
from stint.core.names.headers import LABEL_ACK, LABEL_JOB, LABEL_ORIGIN, LABEL_RUNNER
from stint.core.names.ids import queue_token
from stint.ports import Delivery
from stint.testing import MemoryEventLog
from stint_runner.dispatch.adopt import Adoption
from stint_runner.engine.port import ContainerInfo
from stint_runner.engine.space import EngineSpace
from stint_runner.job.run import JobRun
from stint_runner.job.takeover import take_over
from stint_runner.job.verdict import Verdict
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadlines
from tests.support.brokers import loaded
from tests.support.events import TOKEN, ended, started, submitted
from tests.unit.test_lease import FakeDelivery

JOB = "a" * 24
LEASE = 6.0


class House:
    """A runner `runner-1` and its dispatcher; whether its queues wait for it, and what it reclaims, a test says."""

    def __init__(self, folder: Path, *, holds: bool, delivery: Delivery | None) -> None:
        self.adopted: list[JobRun] = []
        self.asked: list[tuple[str, str, str]] = []
        self.log, self.engine, self.queues = MemoryEventLog(), self, self
        self.id, self.output, self.now, self.space = "runner-1", None, None, EngineSpace()
        self.settings = SimpleNamespace(lease=LEASE, takeover=8.0, kill_grace=1.0, output_limit=0)
        self.deadlines = Deadlines(folder / self.id)
        assert self.deadlines.open()
        self._holds, self._delivery = holds, delivery

    async def find(self, wanted: Mapping[str, str]) -> Sequence[ContainerInfo]:
        assert wanted == {LABEL_RUNNER: self.id}
        marks = {LABEL_JOB: JOB, LABEL_RUNNER: self.id, LABEL_ACK: "its ack", LABEL_ORIGIN: "its consumer"}
        return [ContainerInfo(container_id="c" * 64, labels=marks, started=True)]

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> Delivery | None:
        self.asked.append((token, ack_subject, origin))
        return self._delivery

    def holds(self, _job: Any) -> bool:
        return self._holds

    async def run(self, job: JobRun) -> None:
        self.adopted.append(job)


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("lost", [True, False])
async def test_it_is_adopted_with_the_lease_that_this_runner_has(tmp_path: Path, lost: bool, watched: bool) -> None:
    """It runs already: it cannot wait for a watchdog, and one that comes finds its deadline."""
    house: Any = House(tmp_path, holds=lost, delivery=None if lost else FakeDelivery(lease=LEASE))
    house.deadlines.watched = watched
    await house.log.append(TOKEN, JOB, submitted(), started())
    adoption = Adoption(house, house)
    await adoption.run(asyncio.Event())
    for task in adoption.adopted:
        await task
    assert house.asked == [(TOKEN, "its ack", "its consumer")]
    (job,) = house.adopted
    assert (job.leased.lease.lost, job.leased.lease.times.lease) == (lost, LEASE)
    (kept,) = house.deadlines.all()
    assert (kept.deadline.job_id, kept.deadline.seconds, kept.deadline.hold) == (JOB, LEASE, lost)


async def test_a_stop_waits_for_no_list_of_an_engine_that_hangs(tmp_path: Path) -> None:
    house: Any = House(tmp_path, holds=True, delivery=None)
    asked, stopping = asyncio.Event(), asyncio.Event()

    async def find(_wanted: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    house.find = find
    adopting = asyncio.create_task(Adoption(house, house).run(stopping))
    await asked.wait()
    stopping.set()
    async with asyncio.timeout(10):
        await adopting


@pytest.mark.parametrize(
    ("queue", "on_lost", "held"),
    [
        ("deploys", "", True),
        ("deploys", "advance", False),
        ("prod-1", "", True),
        ("dev", "", False),
        ("dev", "hold", True),
    ],
)
async def test_the_queues_pattern_holds_unless_the_job_says_otherwise(queue: str, on_lost: str, held: bool) -> None:
    log = MemoryEventLog()
    await log.append(queue_token(queue), JOB, msgspec.structs.replace(submitted(queue), on_lost=on_lost))
    runner: Any = SimpleNamespace(settings=SimpleNamespace(hold_queues="prod-*, deploys"))
    assert Runner.holds(runner, await loaded(log, JOB)) is held


T = 15.0


@pytest.mark.parametrize(
    ("holders", "consumers", "waits"),
    [
        (30.0, 30.0, T),
        (0.0, 30.0, T),  # it is not known
        (6.0, 30.0, T),
        (60.0, 30.0, 60 + 6 - 28),  # its watchdog acts after 60 s and takes up to 6, of which 30 - 2 are over
        (1e300, 30.0, 3600 + 6 - 28),  # nonsense, or malice
        (-1e300, 30.0, T),
        (60.0, 60.0, 60 / 6 + 60 / 15 + 6),  # until its next heartbeat it does not know
    ],
)
async def test_whoever_takes_a_job_over_goes_by_its_holders_lease(
    monkeypatch: pytest.MonkeyPatch, holders: float, consumers: float, waits: float
) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def find(_labels: Any) -> list[Any]:
        return []

    log = MemoryEventLog()
    await log.append(TOKEN, JOB, submitted(), msgspec.structs.replace(started("another"), lease=holders))
    job = await loaded(log, JOB)
    lost = lambda *_, **__: ended("unknown", "lost")  # noqa: E731
    settings = SimpleNamespace(takeover=T)
    engine = SimpleNamespace(find=find)
    runner: Any = SimpleNamespace(id="me", settings=settings, log=log, engine=engine, holds=lambda _: False, fact=lost)
    delivery: Any = SimpleNamespace(after_expiry=True, lease=consumers)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert await take_over(runner, job, delivery) is Verdict.ACK
    assert slept == [waits]
    assert (await loaded(log, JOB)).state is State.UNKNOWN
