"""`/readyz` of services whose parts fail, and services whose password in NATS is changed under them."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.streams import (
    EVENTS,
    JOBS_BUCKET,
    PAUSES_BUCKET,
    PROJECTOR_DURABLE,
    RUNNERS_BUCKET,
    WORK,
    kv_stream,
)
from stint.core.names.subjects import kv_subject
from stint.jetstream import JetStreamViews, JetStreamWorkQueues, declare
from stint.jetstream.streams import topology
from stint.process import background
from stint.process.service import BROKER_CLOSED
from stint_runner.dispatch import finder
from tests.support.api_bench import ApiProcess, Bench, api, service_environ, starting_api
from tests.support.brokers import connected
from tests.support.outputs import written
from tests.support.ports import free_port
from tests.support.runner_bench import Bench as RunnerBench
from tests.support.runner_bench import make_bench
from tests.support.runner_process import ended_at_last, runner_process
from tests.support.servers import NatsProcess, OpenBao, ProjectorProcess, ServerProcess, babble, readyz, running
from tests.support.stack import finished, program
from tests.support.waiting import meanwhile, until, until_true

pytestmark = pytest.mark.soak

OLD, NEW = "sEcReT-old", "sEcReT-new"


def users(password: str, *, denied: str = "") -> str:
    """The services' user, who may not publish to what is denied, and another one, who may do anything."""
    permissions = f'permissions: {{publish: {{deny: "{denied}"}}}}' if denied else "permissions: {}"
    service = f'{{user: service, password: "{password}", {permissions}}}'
    return f"authorization {{ users: [{service}, {{user: test, password: test}}] }}"


def url(nats: NatsProcess, user: str, password: str) -> str:
    return f"nats://{user}:{password}@127.0.0.1:{nats.port}"


async def becomes(http: httpx.AsyncClient, words: str) -> None:
    await until(lambda: http.get("/readyz"), lambda answer: words in answer.text)


async def port_says(port: int, words: str) -> None:
    await until(lambda: readyz(port), lambda text: words in text)


@pytest.fixture
async def bench(nats_process: NatsProcess, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(background, "STEADY", 0.5)
    monkeypatch.setattr(topology, "CHECK_INTERVAL", 0.5)
    async with api(nats_process.url, openbao) as bench:
        await becomes(bench.http, "ready")
        yield bench


async def test_an_api_whose_list_stands_still_is_not_ready(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its views are gone, while NATS and Vault are well; or its index has failed."""

    async def refuse(*_arguments: object) -> NoReturn:
        raise BrokerUnavailableError

    with monkeypatch.context() as refusing:
        refusing.setattr(topology, "_info", refuse)
        await bench.broker.api(f"STREAM.DELETE.{kv_stream(JOBS_BUCKET)}")
        await becomes(bench.http, "The list of jobs is not up to date.")
    await becomes(bench.http, "ready")

    def fail(_views: JetStreamViews, *, after: int = 0) -> NoReturn:
        raise ZeroDivisionError(after)

    with monkeypatch.context() as failing:
        failing.setattr(JetStreamViews, "follow", fail)
        await bench.broker.client.force_reconnect()
        await becomes(bench.http, "The list of jobs is not up to date.")
    await becomes(bench.http, "ready")


async def test_an_api_is_not_ready_without_the_log_and_without_the_pauses(bench: Bench) -> None:
    for name in (EVENTS, kv_stream(PAUSES_BUCKET)):
        await bench.broker.api(f"STREAM.DELETE.{name}")
        await becomes(bench.http, "Streams or buckets are missing in NATS.")
        await declare(bench.broker)
        await becomes(bench.http, "ready")


async def test_an_api_that_may_not_declare_the_streams_is_not_ready(openbao: OpenBao, tmp_path: Path) -> None:
    nats = NatsProcess(tmp_path / "nats", settings=users(OLD, denied="$JS.API.STREAM.CREATE.>"))
    async with running(nats), starting_api(url(nats, "service", OLD), openbao) as bench:
        bench.broker.timeout = 0.5
        await becomes(bench.http, "Streams or buckets are missing in NATS.")
        async with connected(url(nats, "test", "test")):
            await becomes(bench.http, "ready")


async def test_a_projector_that_cannot_follow_is_not_ready(nats_process: NatsProcess, tmp_path: Path) -> None:
    environ = {"NATS_URL": nats_process.url}
    async with (
        connected(nats_process.url) as broker,
        running(projector := ProjectorProcess(tmp_path / "projector", environ=environ)),
    ):
        await broker.api(f"STREAM.DELETE.{WORK}")
        await broker.api(f"CONSUMER.DELETE.{EVENTS}.{PROJECTOR_DURABLE}")
        await broker.api(f"STREAM.DELETE.{EVENTS}")
        await port_says(projector.port, "The log is not followed.")
        await declare(broker)
        await port_says(projector.port, "ready")


async def test_a_projector_that_starts_without_nats_says_so(tmp_path: Path) -> None:
    projector = ProjectorProcess(tmp_path, port=free_port(), environ={"NATS_URL": f"nats://127.0.0.1:{free_port()}"})
    async with meanwhile(projector.start()):
        await port_says(projector.port, "NATS is not reachable.")


async def test_a_health_port_that_is_taken_is_one_sentence_and_2(nats_process: NatsProcess) -> None:
    environ = {"NATS_URL": nats_process.url, "STINT_HEALTH_PORT": str(nats_process.port)}
    ended = await finished(sys.executable, "-m", "stint_projector", env=environ)
    assert ended.code == 2
    assert ended.err.startswith("stint: STINT_HEALTH_PORT: cannot listen on port")


async def test_a_runner_looks_for_jobs_after_a_fault(runners: RunnerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STEADY", 0.5)
    monkeypatch.setattr(finder, "RECONCILE", 0.5)
    pending, failed = JetStreamWorkQueues.pending, asyncio.Event()

    async def fail_once(queues: JetStreamWorkQueues) -> Mapping[str, int]:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return await pending(queues)

    async with runners.runner() as worker:
        job_id = await runners.submit("sleep 5")
        await runners.until(job_id, "launched")
        assert worker.missing() == ""
        monkeypatch.setattr(JetStreamWorkQueues, "pending", fail_once)
        async with asyncio.timeout(30):
            await failed.wait()
            await asyncio.sleep(0)
            assert worker.missing() == "The runner cannot list pending jobs."
            await until_true(lambda: not worker.missing())
        await runners.ends_well(job_id)


async def test_a_runner_is_not_ready_before_it_is_on_the_list(openbao: OpenBao, busybox: str, tmp_path: Path) -> None:
    nats = NatsProcess(tmp_path / "nats", settings=users(OLD, denied=kv_subject(RUNNERS_BUCKET, ">")))
    async with running(nats), connected(url(nats, "test", "test")) as broker:
        bench = await make_bench(broker, openbao, busybox, tmp_path)
        runner = runner_process(bench, tmp_path, NATS_URL="", STINT_NATS_URL=url(nats, "service", OLD))
        async with ended_at_last(runner):
            port, starting = int(runner.environment["STINT_HEALTH_PORT"]), asyncio.create_task(runner.start())
            await port_says(port, "The runner is not on the list of runners.")
            nats.settings = users(OLD)
            nats.reload()
            await starting
            assert await readyz(port) == "ready\n"


async def test_a_runner_is_not_ready_before_it_takes_jobs_or_unwatched(runners: RunnerBench, tmp_path: Path) -> None:
    async with ended_at_last(runner_process(runners, tmp_path)) as runner:
        await runner.start()

        async def without_watchdog() -> str:
            """The runner starts another one after a second: that one may be faster than the question."""
            runner.kill_watchdogs()
            return await readyz(runner.port)

        await until(without_watchdog, lambda text: "The watchdog does not run." in text)
        await port_says(runner.port, "ready")
        port = free_port()
        environ = {**runner.environment, "STINT_HEALTH_PORT": str(port)}  # the same name again
        async with program(sys.executable, "-m", "stint_runner", env=environ):
            await port_says(port, "The runner is starting.")


async def test_a_runner_refuses_a_runtime_that_its_engine_does_not_have(runners: RunnerBench, tmp_path: Path) -> None:
    environ = {**runner_process(runners, tmp_path).environment, "STINT_JOB_RUNTIME": "none-such"}
    refused = await finished(sys.executable, "-m", "stint_runner", env=environ)
    assert refused.code == 2
    assert "stint: STINT_JOB_RUNTIME: the engine has no runtime none-such, only " in refused.err
    assert " runc" in refused.err


SENTENCE = "stint: The connection to NATS was closed for good: NATS refuses the user, password"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with running(server := NatsProcess(tmp_path / "nats", settings=users(OLD))):
        yield server


def change_password(nats: NatsProcess) -> None:
    nats.settings = users(NEW)
    nats.reload()


async def ended(server: ServerProcess) -> int:
    async with asyncio.timeout(30):
        return await server.exit_code()


@pytest.mark.parametrize("shape", [ApiProcess, ProjectorProcess])
async def test_a_service_ends_with_a_sentence(
    nats: NatsProcess, openbao: OpenBao, tmp_path: Path, shape: type[ApiProcess | ProjectorProcess]
) -> None:
    environ = await service_environ(url(nats, "service", OLD), openbao)
    async with running(server := shape(tmp_path / "service", environ=environ)):
        await until(lambda: readyz(server.port), lambda text: text == "ready\n")
        change_password(nats)
        assert await ended(server) == BROKER_CLOSED
    assert SENTENCE in server.log
    assert "Traceback" not in server.log
    assert OLD not in server.log


async def test_a_server_that_is_another_ends_a_rebuild_with_a_sentence() -> None:
    async with await asyncio.start_server(babble, "127.0.0.1", 0) as other:
        environ = {"NATS_URL": f"nats://127.0.0.1:{other.sockets[0].getsockname()[1]}"}
        rebuild = await finished(sys.executable, "-m", "stint_projector.rebuild", env=environ, seconds=30)
    assert rebuild.code == BROKER_CLOSED
    assert rebuild.err.splitlines()[-1] == "stint: The connection to NATS was closed for good: ValueError."


async def test_a_runners_jobs_are_adopted(nats: NatsProcess, openbao: OpenBao, busybox: str, tmp_path: Path) -> None:
    token, job_id = queue_token("deploys"), secrets.token_hex(12)
    settings = {"STINT_LEASE": "30", "STINT_TAKEOVER": "15", "STINT_DRAIN": "60"}
    async with connected(url(nats, "test", "test")) as broker:
        bench = await make_bench(broker, openbao, busybox, tmp_path)
        own = settings | {"STINT_NATS_URL": url(nats, "service", OLD)}
        async with ended_at_last(runner_process(bench, tmp_path, **own)) as runner:
            await runner.start()
            async with written(bench.output, token, job_id) as tail, asyncio.timeout(60):
                await bench.submit("echo one; sleep 10; exit 7", job_id=job_id)
                await anext(tail)
            change_password(nats)
            assert await ended(runner) == BROKER_CLOSED
            assert SENTENCE in runner.log
            assert not runner.said("draining")
            assert await bench.containers(job_id), "its container goes on"
            runner.settings = {**runner.settings, "STINT_NATS_URL": url(nats, "service", NEW)}
            await runner.kill()
            await runner.start()
            assert len(runner.said("job adopted")) == 1
            job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "exit_code", 7)
