"""A publisher that takes all it can get: what the services and other publishers need stays theirs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from stint.core.names.ids import queue_token
from stint.core.names.subjects import live_filter
from stint.jetstream import JetStreamEventLog
from stint.natsauth.callout.logins import TOO_MANY
from stint.natsauth.config import LIMITS, SUBSCRIPTIONS
from tests.support import events
from tests.support.accounts import Accounts, NatsAuth, nats_auth, token_for
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import set_up
from tests.support.waiting import until_true

pytestmark = pytest.mark.soak

CONNECTIONS = 20
"""Instead of the real limits, which a test would take long to reach."""
JOB = "d" * 24
BY_KEY, BY_TOKEN, SUBSCRIBER = "mallory", "mallory with a Vault token", "eve"
VICTIM, VICTIM_BY_TOKEN, TOLD = "victim", "victim with a Vault token", "told"
ALL = [BY_KEY, BY_TOKEN, SUBSCRIBER]
VICTIMS = (VICTIM, VICTIM_BY_TOKEN, TOLD)


@pytest.fixture
async def accounts(openbao: OpenBao, tmp_path: Path) -> Accounts:
    await set_up(openbao)
    mine, theirs = [await token_for(openbao, {queue: ["create", "read"]}) for queue in ("own", "other")]
    tokens = {BY_TOKEN: ("own", mine), VICTIM_BY_TOKEN: ("other", theirs)}
    keys = {BY_KEY: ["own"], VICTIM: ["other"]}
    return Accounts(tmp_path / "keys", keys, [SUBSCRIBER, TOLD], auth=True, tokens=tokens)


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    written = f'"max_connections": {LIMITS["max_connections"]},'
    assert accounts.settings.count(written) == len(accounts.publishers) + len(accounts.subscribers)
    settings = accounts.settings.replace(written, f'"max_connections": {CONNECTIONS},')
    async with accounts.declared(tmp_path / "nats", settings) as server:
        yield server


@pytest.fixture(autouse=True)
async def auth(accounts: Accounts, server: NatsProcess, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[NatsAuth]:
    few = {"STINT_NATS_AUTH_LOGINS": str(CONNECTIONS)}
    async with nats_auth(accounts, server, openbao, tmp_path / "auth", **few) as process:
        yield process


async def others_work(accounts: Accounts, server: NatsProcess) -> None:
    """A service logs in, listens and appends; others from outside log in."""
    async with accounts.connected(server.url, "api") as api, api.subscribe(live_filter("*", "*", JOB)) as heard:
        await JetStreamEventLog(api).append(queue_token("other"), JOB, events.submitted("other"))
        assert (await heard.next_msg(timeout=20)).subject == live_filter("submitted", queue_token("other"), JOB)
    for victim in VICTIMS:
        await (await connect(accounts, server, victim)).close()


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


@pytest.mark.parametrize("user", ALL)
async def test_all_connections_of_one_user_are_not_those_of_others(
    accounts: Accounts, server: NatsProcess, auth: NatsAuth, user: str
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.push_async_callback((await connect(accounts, server, user)).close)
        with pytest.raises((nats.errors.Error, OSError)):
            await connect(accounts, server, user)
        if user == BY_TOKEN:
            await until_true(lambda: TOO_MANY in auth.log)
        else:
            await until_true(lambda: "maximum account active connections exceeded" in server.log)
        await others_work(accounts, server)


@pytest.mark.parametrize("user", [BY_KEY, BY_TOKEN])
async def test_a_connections_subscriptions_are_bounded(accounts: Accounts, server: NatsProcess, user: str) -> None:
    client = await connect(accounts, server, user)
    try:
        for _ in range(SUBSCRIPTIONS + 1):
            await client.subscribe(live_filter("ended", queue_token("own"), JOB))
        await until_true(lambda: client.is_closed)
        assert "maximum subscriptions exceeded" in str(client.last_error)
        await others_work(accounts, server)
    finally:
        await client.close()
