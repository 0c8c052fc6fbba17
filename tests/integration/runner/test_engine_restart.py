"""A Docker engine that is restarted under a running job, with and without live-restore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stint.core.events import Ended
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.names.ids import queue_token
from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from stint_runner.inputs.files import Member, overlay
from tests.support.outputs import written
from tests.support.runner_bench import Bench, make_bench
from tests.support.second_engine import EngineProcess, second_engine
from tests.support.servers import OpenBao

pytestmark = pytest.mark.soak

WRITER = "n=1; until [ -e /enough ]; do echo line $n; n=$((n+1)); sleep 0.4; done"
"""It writes before, during and after the restart, however long that takes.

Of a container that ends meanwhile the engine may not know how.
"""
AFTERWARDS = 3
"""Pieces of output after the restart; the first may be of before."""


@asynccontextmanager
async def working(
    folder: Path, broker: Broker, openbao: OpenBao, *options: str
) -> AsyncIterator[tuple[EngineProcess, Bench]]:
    """A runner on an engine of its own."""
    async with second_engine(folder, *options) as engine:
        await engine.load("busybox:latest")
        bench = await make_bench(broker, openbao, "busybox:latest", folder)
        async with bench.runner(engine=DockerEngine(engine.host)):
            yield engine, bench


async def restarted(engine: EngineProcess, bench: Bench, script: str, how: str) -> str:
    """A job under which the engine was restarted once it had written."""
    job_id = await bench.running(script)
    await (engine.kill() if how == "kill" else engine.stop())
    await engine.start()
    return job_id


async def end_of(bench: Bench, job_id: str) -> tuple[Job, Ended, str]:
    job, end = await bench.end(job_id)
    return job, end, await bench.text(job)


async def let_it_end(bench: Bench, job_id: str) -> None:
    """Tell the writer, once it has written after the restart, that this is enough."""
    last = await bench.output.last(queue_token("deploys"), job_id)
    before = last.number if last else 0
    async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(60):
        while (await anext(tail)).number < before + AFTERWARDS:
            pass
    (container,) = await bench.engine().find({LABEL_JOB: job_id})
    enough = Member(path="enough", data=b"", mode=0o444, owner=0)
    await bench.engine().put_archive(container.container_id, overlay(enough))


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_with_live_restore_the_job_goes_on(broker: Broker, openbao: OpenBao, tmp_path: Path, how: str) -> None:
    """Its output is whole here; whether the engine took some along nobody can know."""
    async with working(tmp_path, broker, openbao, "--live-restore") as (engine, bench):
        job_id = await restarted(engine, bench, WRITER, how)
        await let_it_end(bench, job_id)
        job, end, text = await end_of(bench, job_id)
        assert (job.state, end.return_code, end.output_complete) == (State.SUCCESS, 0, False), end.error
        lines = text.splitlines()
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]


async def test_without_it_the_job_ends_and_the_queue_goes_on(broker: Broker, openbao: OpenBao, tmp_path: Path) -> None:
    async with working(tmp_path, broker, openbao) as (engine, bench):
        job, end, text = await end_of(bench, await restarted(engine, bench, "echo up; sleep 600", "kill"))
        assert (job.state, end.return_code) == (State.FAILED, 137), end.error
        assert text == "up\n"
        await bench.ends_well(await bench.submit("true"))
