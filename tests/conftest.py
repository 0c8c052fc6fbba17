"""Servers for tests. Those named `…_process` are the test's own: kill and restart them. The others are shared.

No test finds a token or a server that it was not given: HOME is empty, and VAULT_TOKEN and its like are not set.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image cannot be had everywhere; this is read at import

import hypothesis
import pytest
import structlog
from scripts.server_images import nats_image, openbao_image
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stint.cli.dev.demo_image import ensure_image
from stint.jetstream import Broker
from tests.support.brokers import connected
from tests.support.containers import OpenBao, started, sweep
from tests.support.servers import BaoProcess, NatsProcess, running

# Every test has a time-out; a deadline of its own an example would miss on a busy machine.
hypothesis.settings.register_profile("stint", deadline=None)
hypothesis.settings.load_profile("stint")
# With rich installed, each traceback that is logged would be drawn with all locals: seconds on a busy machine.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

LONGEST = (
    "tests/api",
    "tests/integration/test_cluster",
    "tests/integration/test_runner_lost",
    "tests/chaos/test_planted",
    "tests/e2e",
    "tests/integration/test_engine_restart",
)
"""Tests that take minutes, longest first: who starts on them last would be waited for."""

API_STACKS = (
    {"test_compat"},
    {"test_authentication", "test_container", "test_drain", "test_kill", "test_limits", "test_pulls"},
)
"""Modules of `tests/api` that have a stack of their own: those about compatibility, and about half of the others."""

_FOUND = ("VAULT_", "BAO_", "NATS_", "STINT_", "GOSTINT_")


class ByServers(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Tests that share servers run in one process: those of a module, and those of `tests/api` by their stack."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if not path.startswith("tests/api/"):
            return path
        stacks = (number for number, modules in enumerate(API_STACKS) if Path(path).stem in modules)
        return f"tests/api {next(stacks, 'other')}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServers:
    """pytest-xdist's own way to group, by a mark, does nothing with pytest 9.2."""
    return ByServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(
        key=lambda item: next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))
    )


@pytest.fixture(scope="session", autouse=True)
def _nothing_found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take away what a client could find by itself; the engine stays the one it was."""
    with pytest.MonkeyPatch.context() as patch:
        if host := get_docker_host():
            patch.setenv("DOCKER_HOST", host)
        for name in [name for name in os.environ if name.startswith(_FOUND)]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
async def _swept() -> None:
    await sweep()


@pytest.fixture(scope="session")
async def nats_url(_swept: None) -> AsyncIterator[str]:
    """A NATS server with JetStream in a container, with its defaults; every test of the session shares it."""
    container = DockerContainer(await nats_image()).with_command("--jetstream")
    container.waiting_for(LogMessageWaitStrategy("Server is ready"))
    async with started(container, 4222) as place:
        yield f"nats://{place}"


@pytest.fixture(scope="session")
async def openbao(_swept: None) -> AsyncIterator[OpenBao]:
    """An OpenBao in dev mode in a container; every test of the session shares it."""
    token = secrets.token_hex(16)
    container = DockerContainer(await openbao_image()).with_command("server -dev -dev-no-store-token")
    container.with_envs(BAO_DEV_ROOT_TOKEN_ID=token, BAO_DEV_LISTEN_ADDRESS="0.0.0.0:8200")
    container.waiting_for(HttpWaitStrategy(8200, "/v1/sys/health").for_status_code(200))
    async with started(container, 8200) as place:
        yield OpenBao(address=f"http://{place}", root_token=token)


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """A connection to the shared NATS, whose streams are new for each test."""
    async with connected(nats_url, fresh=True) as broker:
        yield broker


@pytest.fixture(scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsProcess]:
    """A NATS server as a process, fresh for each test module. Its tests share it: leave it running."""
    async with running(server := NatsProcess(tmp_path_factory.mktemp("nats"))):
        yield server


@pytest.fixture
async def nats_process(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    """A running NATS server of the test's own."""
    async with running(server := NatsProcess(tmp_path / "nats")):
        yield server


@pytest.fixture
async def bao_process(tmp_path: Path) -> AsyncIterator[BaoProcess]:
    """A running OpenBao of the test's own."""
    async with running(server := BaoProcess(tmp_path / "bao")):
        yield server


@pytest.fixture(scope="session")
async def busybox() -> str:
    """The reference of a busybox image that is on the engine."""
    return await ensure_image()
