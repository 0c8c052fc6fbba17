"""Runners in this process, on the real NATS, OpenBao and Docker that all share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from tests.support.runner_bench import Bench, make_bench
from tests.support.servers import OpenBao


@pytest.fixture
async def bench(broker: Broker, openbao: OpenBao, busybox: str, tmp_path: Path) -> Bench:
    return await make_bench(broker, openbao, busybox, tmp_path)


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """This machine's."""
    engine = DockerEngine(os.environ.get("DOCKER_HOST", ""))
    yield engine
    await engine.close()
