"""A run short enough for every test run, and what a run's course rests on. `make chaos` is the long one."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.jobs import jobs
from tests.chaos.plan import Plan
from tests.chaos.proxy import Proxy
from tests.chaos.run import faults_of, run
from tests.chaos.schedule import WEIGHTS, schedule

SHORT = Plan(seed=593, seconds=25, jobs=80, faults=8, runners=3, queues=12)
"""Its seed gives one fault of each kind but one, some longer than a lease."""


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_short_run_has_no_violation() -> None:
    report = await run(SHORT)
    assert not report.violations, report.text
    assert len(report.evidence.faults) == SHORT.faults
    assert len(report.evidence.submissions) == SHORT.jobs


def test_a_seed_repeats_the_schedule_and_the_load() -> None:
    same, other = Plan(seed=3, jobs=50, faults=20), Plan(seed=4, jobs=50, faults=20)
    assert faults_of(same) == faults_of(same)
    assert list(jobs(same)) == list(jobs(same))
    assert faults_of(same) != faults_of(other)
    assert list(jobs(same)) != list(jobs(other))


@pytest.mark.parametrize("seed", range(20))
def test_faults_are_lifted_in_time_and_no_two_hit_one_place(seed: int) -> None:
    sizes = {"runner": 4, "projector": 2, "api": 2, "nats": 3}
    made = schedule(seed, seconds=600, faults=120, lease=6, sizes=sizes)
    assert len(made) == 120
    assert max(fault.at + fault.length for fault in made) <= 601
    for fault in made:
        later = [other for other in made if other.place == fault.place and other.at > fault.at]
        assert all(other.at >= fault.at + fault.length for other in later)
    assert {fault.kind for fault in made} == {kind for kind, weight in WEIGHTS.items() if weight}
    chosen = schedule(seed, seconds=60, faults=5, lease=6, sizes=sizes, kinds=["runner kill"])
    assert {fault.kind for fault in chosen} == {"runner kill"}


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    environ = {"CHAOS_SECONDS": "60", "CHAOS_SEED": "7", "CHAOS_ENGINE": "docker", "CHAOS_SERVERS": "3"}
    assert Plan.from_environment({"CHAOS_KINDS": "nats kill, api kill"}).kinds == ("nats kill", "api kill")
    plan = Plan.from_environment(environ | {"CHAOS_FAULTS": "0", "CHAOS_KEEP": str(tmp_path)})
    assert (plan.seconds, plan.seed, plan.engine, plan.servers, plan.faults) == (60, 7, "docker", 3, 0)
    assert plan.jobs > 0
    assert Plan.from_environment({}).faults > 0
    for wrong in ({"CHAOS_ENGINE": "podman"}, {"CHAOS_SERVERS": "2"}, {"CHAOS_JOBS": "many"}, {"CHAOS_KINDS": "flood"}):
        with pytest.raises(ValueError, match=r"CHAOS_|int"):
            Plan.from_environment(wrong)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def echoing(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through it that works."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    return reader, writer


async def test_a_proxy_stalls_without_closing_and_cuts() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    async with server, proxy.listening(), asyncio.timeout(20):
        reader, writer = await echoing(proxy)
        proxy.stall()
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        proxy.heal()
        assert await reader.readexactly(1) == b"b"
        proxy.drop()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        again, refused = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionError):
            await again.read()
        refused.close()
        proxy.heal()
        (await echoing(proxy))[1].close()
