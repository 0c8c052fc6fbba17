"""Servers for tests. Those named `…_process` are the test's own: kill and restart them. The others are shared.

No test finds a token or a server that it was not given: HOME is empty, and VAULT_TOKEN and its like are not set.
"""

import gc
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stint.jetstream import Broker
from stint.process.service import GARBAGE
from tests.support.brokers import connected
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, running

# Every test has a time-out. On a busy machine an example would miss a deadline of its own, and takes long to be made.
hypothesis.settings.register_profile("stint", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("stint")
hypothesis.settings.register_profile("quick", max_examples=20)  # of `make unit`
# With rich installed, each traceback that is logged would be drawn with all locals: seconds on a busy machine.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)
# As in the services: Python's own threshold took 15 % of the CPU of `make unit`.
gc.set_threshold(GARBAGE)
# A shell that runs the tests in the background has them ignore SIGINT, which all programs that they start inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

FUZZERS = "tests/fuzz/test_targets.py::test_many_changed_cases"
LONGEST = (
    FUZZERS,
    "tests/api",
    "tests/integration/test_cluster",
    "tests/integration/runner/test_runner_lost",
    "tests/chaos/test_planted",
    "tests/e2e",
    "tests/integration/runner/test_restarts",
    "tests/integration/runner",
    "tests/integration/test_client_run",
    "tests/integration/test_vault_sealed",
)
"""Tests that take long, longest first: who starts on them last would be waited for."""

LONGEST_ID = 100
"""Characters, or bytes, of a value that stands in a test's id."""

API_STACKS = (
    {"test_compat"},
    {"test_rerun"},
    {"test_authentication", "test_container", "test_drain", "test_kill", "test_limits", "test_pulls"},
)
"""Modules of `tests/api` that have a stack of their own: those about compatibility, and about half of the others."""

_FOUND = ("VAULT_", "BAO_", "NATS_", "STINT_", "GOSTINT_")


class ByServers(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Tests that share servers run in one process: of a module, of the page, and of `tests/api` by their stack.

    Each long test of a fuzz target is on its own, so that they run side by side.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(FUZZERS):
            return nodeid
        path = nodeid.partition("::")[0]
        if path.startswith("tests/e2e/page/"):
            return "tests/e2e/page"
        if not path.startswith("tests/api/"):
            return path
        stacks = (number for number, modules in enumerate(API_STACKS) if Path(path).stem in modules)
        return f"tests/api {next(stacks, 'other')}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServers:
    """pytest-xdist's own way to group, by a mark, does nothing from pytest 9.2 on."""
    return ByServers(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long values do not become part of a test's id, which processes get in their environment, where it must fit."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest. Each test has an id of its own: pytest-xdist runs one of those that share one."""
    twice = [nodeid for nodeid, number in Counter(item.nodeid for item in items).items() if number > 1]
    if twice:
        raise pytest.UsageError(f"tests with the same id: {twice}")
    items.sort(
        key=lambda item: next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))
    )


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look at it again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Look at the end, too: what a worker of xdist finds behind its last test fails nothing."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _nothing_found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take away what a client could find by itself; the engine stays the one it was."""
    with pytest.MonkeyPatch.context() as patch:
        if shutil.which("docker"):
            inspect = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
            host = subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()
            patch.setenv("DOCKER_HOST", host)
        for name in [name for name in os.environ if name.startswith(_FOUND)]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What refers to itself stays in memory during the test."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
async def nats_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A NATS server with JetStream, which does not sync each write; every test of the session shares it."""
    async with running(server := NatsProcess(tmp_path_factory.mktemp("nats"), sync_interval="2m")):
        yield server.url


@pytest.fixture(scope="session")
async def openbao(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenBao]:
    """An OpenBao in dev mode; every test of the session shares it."""
    async with running(server := BaoProcess(tmp_path_factory.mktemp("openbao"))):
        yield OpenBao(address=server.address, root_token=server.root_token)


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
def busybox() -> str:
    """The reference of the busybox image, which `make setup` puts on the engine."""
    return "busybox:latest"
