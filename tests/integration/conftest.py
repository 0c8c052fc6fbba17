"""An API on real servers, one for each module; modules that need another one have a `bench` of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from stint.client import Client
from stint.jetstream import Broker
from stint.natsauth.roles import OPERATOR
from tests.support import certificates as made
from tests.support.accounts import Accounts, Guarded
from tests.support.api_bench import Api, Bench, api, api_process, secret
from tests.support.brokers import connected
from tests.support.client_bench import Bench as ClientBench
from tests.support.oidc import Provider, provider
from tests.support.runner_bench import Bench as RunnerBench
from tests.support.runner_bench import make_bench
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import set_up


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao) as bench:
        yield bench


@pytest.fixture(scope="module")
async def compat(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    """The same with `STINT_COMPAT=gostint`."""
    async with api(nats.url, openbao, STINT_COMPAT="gostint") as bench:
        yield bench


@pytest.fixture(scope="module")
async def server(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """NATS with all streams, and with the accounts that a module has as its fixture."""
    async with accounts.declared(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def operator(accounts: Accounts, server: NatsProcess) -> AsyncIterator[Broker]:
    async with accounts.connected(server.url, OPERATOR) as operator:
        yield operator


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Of the API that is a process of its own; modules that need others have a fixture of their own."""
    return {}


@pytest.fixture(scope="module")
async def own(
    nats: NatsProcess, openbao: OpenBao, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """An API that is a process of its own, and a client of it."""
    async with api_process(tmp_path_factory.mktemp("api"), nats.url, openbao, **settings) as own:
        yield own


@pytest.fixture(scope="module")
def http(own: Api) -> httpx.AsyncClient:
    return own[1]


@pytest.fixture(scope="module")
async def people(openbao: OpenBao) -> Provider:
    """Who may sign in at OpenBao as a provider, for the page at https://api."""
    await set_up(openbao)
    return await provider(openbao.address, openbao.root_token, "https://api")


@pytest.fixture
async def runners(
    nats_process: NatsProcess, openbao: OpenBao, busybox: str, tmp_path: Path
) -> AsyncIterator[RunnerBench]:
    """On a NATS of the test's own."""
    async with connected(nats_process.url) as broker:
        yield await make_bench(broker, openbao, busybox, tmp_path)


@pytest.fixture
async def stint(bench: ClientBench) -> AsyncIterator[Client]:
    """Of modules whose `bench` is for the client."""
    async with Client.connect(bench.where) as stint:
        yield stint


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture
def queue() -> str:
    return secret().lower()
