"""Services whose password in NATS is changed under them."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.process.service import BROKER_CLOSED
from tests.support.api_bench import ApiProcess, service_environ
from tests.support.brokers import connected
from tests.support.outputs import written
from tests.support.runner_bench import make_bench
from tests.support.runner_process import ended_at_last, runner_process
from tests.support.servers import NatsProcess, OpenBao, ProjectorProcess, ServerProcess, babble, readyz, running
from tests.support.stack import finished
from tests.support.waiting import until

pytestmark = pytest.mark.soak

SENTENCE = "stint: The connection to NATS was closed for good: NATS refuses the user, password"
OLD, NEW = "sEcReT-old", "sEcReT-new"


def users(service: str) -> str:
    """Another user than the services' stays as it is."""
    return f'authorization {{ users: [{{user: service, password: "{service}"}}, {{user: test, password: test}}] }}'


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with running(server := NatsProcess(tmp_path / "nats", settings=users(OLD))):
        yield server


def url(nats: NatsProcess, user: str, password: str) -> str:
    return f"nats://{user}:{password}@127.0.0.1:{nats.port}"


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


async def test_a_runner_ends_at_once_and_its_jobs_are_adopted(
    nats: NatsProcess, openbao: OpenBao, busybox: str, tmp_path: Path
) -> None:
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
