"""Runners in this process, on the real NATS, OpenBao and Docker that all share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from tests.support.registry import Registry, registry
from tests.support.runner_bench import Bench, make_bench
from tests.support.runner_process import LONG_LEASE, RunnerProcess, ended_at_last, runner_process
from tests.support.servers import OpenBao


@pytest.fixture
async def bench(broker: Broker, openbao: OpenBao, busybox: str, tmp_path: Path) -> Bench:
    return await make_bench(broker, openbao, busybox, tmp_path)


@pytest.fixture
async def adopter(bench: Bench, tmp_path: Path) -> AsyncIterator[RunnerProcess]:
    """A runner process with a long lease, whose jobs it adopts itself, or a runner of the bench with its name."""
    settings = {"STINT_LEASE": str(LONG_LEASE), "STINT_TAKEOVER": "15"}
    async with ended_at_last(runner_process(bench, tmp_path, **settings)) as runner:
        bench.state = runner.state.parent
        yield await runner.start()


@pytest.fixture(scope="module")
async def shelf(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    """A registry."""
    async with registry(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """This machine's."""
    engine = DockerEngine(os.environ.get("DOCKER_HOST", ""))
    yield engine
    await engine.close()
