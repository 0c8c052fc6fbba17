"""An API on real servers, one for each module; modules that need another one have a `bench` of their own."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stint.client import Client
from tests.support.accounts import Accounts
from tests.support.api_bench import Bench, api, api_process, secret
from tests.support.client_bench import Bench as ClientBench
from tests.support.servers import NatsProcess, OpenBao


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
async def server(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsProcess]:
    """NATS with all streams, and with the accounts that a module has as its fixture."""
    async with accounts.declared(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
async def http(
    nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """Of an API that is a process of its own."""
    async with api_process(tmp_path_factory.mktemp("api"), nats.url, openbao) as (_, http):
        yield http


@pytest.fixture
async def stint(bench: ClientBench) -> AsyncIterator[Client]:
    """Of modules whose `bench` is for the client."""
    async with Client.connect(bench.where) as stint:
        yield stint


@pytest.fixture
def queue() -> str:
    return secret().lower()
