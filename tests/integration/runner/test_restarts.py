"""NATS, or the engine, is restarted under a job: nobody else may end or run it for that, and nothing of it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from stint.core.events import Ended
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.names.ids import queue_token
from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from stint_runner.inputs.files import Member, overlay
from stint_runner.inputs.memory import Share
from stint_runner.job.prepare import Preparation
from stint_runner.job.run import JobRun
from tests.support.events import QUEUE
from tests.support.outputs import written
from tests.support.runner_bench import Bench, make_bench
from tests.support.runner_process import RunnerProcess, ended_at_last, runner_process
from tests.support.second_engine import EngineProcess, second_engine
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.soak

TIMES = {"STINT_LEASE": "30", "STINT_TAKEOVER": "15"}
OTHERS = ("another", "a third", "a fourth", "a fifth")
"""Enough that one of them hears a hint."""


@pytest.fixture
async def runner(runners: Bench, tmp_path: Path) -> AsyncIterator[RunnerProcess]:
    """A runner of one queue, which may not remove what it has acknowledged."""
    async with ended_at_last(runner_process(runners, tmp_path, **TIMES, STINT_QUEUES=QUEUE)) as runner:
        yield await runner.start()


async def restarted(nats: NatsProcess, bench: Bench) -> None:
    await nats.restart()
    await bench.broker.wait_connected()


async def test_a_runner_that_is_restarted_with_it_goes_on_with_its_job(
    runners: Bench, nats_process: NatsProcess, runner: RunnerProcess
) -> None:
    """Before the job there is one that was acknowledged, and that nobody has removed."""
    await runners.ends_well(await runners.submit("true"))
    job_id = await runners.running("for n in 1 2 3 4 5 6; do echo $n; sleep 1; done")
    following = await runners.submit("true")
    await runner.kill()
    await restarted(nats_process, runners)
    await runner.start()
    job, ended = await runners.end(job_id)
    assert (job.state, ended.by, await runners.text(job)) == (State.SUCCESS, "runner-1", "1\n2\n3\n4\n5\n6\n")
    await runners.ends_well(following)
    assert [said["lease"] for said in runner.said("job adopted")] == ["renewed"]


async def test_a_job_that_another_examined_and_gave_back_is_not_lost(
    runners: Bench, nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both examine it; the first one claims it, and the second, which drains, lets a third have it."""
    examine, first, second, goes = JobRun._examine, asyncio.Event(), asyncio.Event(), asyncio.Event()  # noqa: SLF001

    async def examining(run: JobRun, job: Job, share: Share) -> Preparation | None:
        if run._runner.id == "runner-1":  # noqa: SLF001
            first.set()
            await goes.wait()
        if run._runner.id == "draining":  # noqa: SLF001
            second.set()
            await runners.until(job.job_id, "started")
            return None
        return await examine(run, job, share)

    monkeypatch.setattr(JobRun, "_examine", examining)
    async with runners.runner(), AsyncExitStack() as others:
        job_id = await runners.submit("sleep 4")
        await first.wait()
        await restarted(nats_process, runners)
        await others.enter_async_context(runners.runner("draining", capacity=1))
        async with asyncio.timeout(PATIENCE):
            await second.wait()
        for name in OTHERS:
            await others.enter_async_context(runners.runner(name))
        goes.set()
        job, ended = await runners.end(job_id)
    assert (job.state, ended.by) == (State.SUCCESS, "runner-1")


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


async def under_a_restart(engine: EngineProcess, bench: Bench, script: str, how: str) -> str:
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
        job_id = await under_a_restart(engine, bench, WRITER, how)
        await let_it_end(bench, job_id)
        job, end, text = await end_of(bench, job_id)
        assert (job.state, end.return_code, end.output_complete) == (State.SUCCESS, 0, False), end.error
        lines = text.splitlines()
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]


async def test_without_it_the_job_ends_and_the_queue_goes_on(broker: Broker, openbao: OpenBao, tmp_path: Path) -> None:
    async with working(tmp_path, broker, openbao) as (engine, bench):
        job, end, text = await end_of(bench, await under_a_restart(engine, bench, "echo up; sleep 600", "kill"))
        assert (job.state, end.return_code) == (State.FAILED, 137), end.error
        assert text == "up\n"
        await bench.ends_well(await bench.submit("true"))
