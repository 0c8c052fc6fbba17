"""How long a queue waits for the end of a lost runner's container."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stint.testing import MemoryEventLog
from stint_runner.job.takeover import take_over
from stint_runner.job.verdict import Verdict
from tests.support.events import TOKEN, ended, started, submitted

JOB = "a" * 24
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
    job = await log.load(JOB)
    assert job is not None
    lost = lambda *_, **__: ended("unknown", "lost")  # noqa: E731
    settings = SimpleNamespace(takeover=T)
    engine = SimpleNamespace(find=find)
    runner: Any = SimpleNamespace(id="me", settings=settings, log=log, engine=engine, holds=lambda _: False, fact=lost)
    delivery: Any = SimpleNamespace(after_expiry=True, lease=consumers)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert await take_over(runner, job, delivery) is Verdict.ACK
    assert slept == [waits]
