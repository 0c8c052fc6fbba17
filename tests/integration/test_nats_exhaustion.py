"""A publisher that takes all it can get: what the services need stays theirs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from stint.core.names.ids import queue_token
from stint.core.names.subjects import live_filter
from stint.jetstream import JetStreamEventLog, declare
from stint.natsauth.config import PUBLISHER_LIMITS
from tests.support import events
from tests.support.accounts import Accounts, nats_auth, token_for
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.vault_bench import set_up
from tests.support.waiting import until_true

FEW = {"max_connections": 20, "max_subscriptions": 300}
"""Instead of the real limits, which a test would take long to reach."""
JOB = "d" * 24
BY_KEY, BY_TOKEN = "mallory", "mallory with a Vault token"


@pytest.fixture
async def accounts(openbao: OpenBao, tmp_path: Path) -> Accounts:
    await set_up(openbao)
    token = await token_for(openbao, {"own": ["create", "read"]})
    return Accounts(tmp_path / "keys", {BY_KEY: ["own"]}, auth=True, tokens={BY_TOKEN: ("own", token)})


@pytest.fixture
async def server(accounts: Accounts, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    settings = accounts.settings
    for name, few in FEW.items():
        written = f'"{name}": {PUBLISHER_LIMITS[name]}'
        assert settings.count(written) == 1
        settings = settings.replace(written, f'"{name}": {few}')
    server = NatsProcess(tmp_path / "nats", settings=settings)
    async with running(server), nats_auth(accounts, server, openbao, tmp_path / "auth"):
        async with accounts.connected(server.url, "projector") as projector:
            await declare(projector)
        yield server


async def services_work(accounts: Accounts, server: NatsProcess, job_id: str) -> None:
    """A service logs in, listens and appends."""
    async with accounts.connected(server.url, "api") as api, api.subscribe(live_filter("*", "*", job_id)) as heard:
        await JetStreamEventLog(api).append(queue_token("other"), job_id, events.submitted("other"))
        assert (await heard.next_msg(timeout=20)).subject == live_filter("submitted", queue_token("other"), job_id)


async def connect(accounts: Accounts, server: NatsProcess, user: str) -> Client:
    client = Client()
    options = accounts.access(server.url, user).options()
    try:
        await client.connect(server.url, error_cb=looked_at_later, allow_reconnect=False, **options)
    except BaseException:
        await client.close()
        raise
    return client


async def looked_at_later(_error: Exception) -> None:
    """The client would log it with a traceback."""


@pytest.mark.parametrize("user", [BY_KEY, BY_TOKEN])
async def test_all_connections_of_publishers_are_not_those_of_services(
    accounts: Accounts, server: NatsProcess, user: str
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(FEW["max_connections"]):
            stack.push_async_callback((await connect(accounts, server, user)).close)
        with pytest.raises((nats.errors.Error, OSError)):
            await connect(accounts, server, user)
        await until_true(lambda: "maximum account active connections exceeded" in server.log)
        await services_work(accounts, server, JOB)


@pytest.mark.parametrize("user", [BY_KEY, BY_TOKEN])
async def test_all_subscriptions_of_publishers_are_not_those_of_services(
    accounts: Accounts, server: NatsProcess, user: str
) -> None:
    client = await connect(accounts, server, user)
    try:
        for _ in range(FEW["max_subscriptions"] + 1):
            await client.subscribe(live_filter("ended", queue_token("own"), JOB))
        await until_true(lambda: client.is_closed)
        assert "maximum subscriptions exceeded" in str(client.last_error)
        await services_work(accounts, server, JOB)
    finally:
        await client.close()
