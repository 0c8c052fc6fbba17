"""A publisher that takes all it can get: what the services and other publishers need stays theirs.

On a whole stack, whose NATS has the limits that `stint nats-config` writes.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from stint.core.names.ids import queue_token
from stint.core.names.subjects import live_filter
from stint.natsauth.callout.service import TOO_MANY
from stint.natsauth.config import LIMITS, SUBSCRIPTIONS
from tests.support.accounts import Accounts, logged_in, token_for
from tests.support.attacked import Attacked, attacked
from tests.support.waiting import until_true

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]  # for a whole stack to start on a busy machine

LOGINS = 20
"""Instead of 200, with which a test would wait for Vault for long."""
JOB = "d" * 24
BY_KEY, BY_TOKEN, SUBSCRIBER = "mallory", "mallory with a Vault token", "eve"
VICTIM, VICTIM_BY_TOKEN, TOLD = "victim", "victim with a Vault token", "told"
ALL = {BY_KEY: LIMITS["max_connections"], BY_TOKEN: LOGINS, SUBSCRIBER: LIMITS["max_connections"]}
"""How many connections each attacker may have."""
VICTIMS = (VICTIM, VICTIM_BY_TOKEN, TOLD)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> AsyncIterator[Attacked]:
    assert busybox
    async with attacked(tmp_path_factory.mktemp("attacked"), STINT_NATS_AUTH_LOGINS=str(LOGINS)) as server:
        await server.configure(users(server))
        yield server


def users(server: Attacked, **more: Any) -> Accounts:
    return Accounts(server.keys, {BY_KEY: ["own"], VICTIM: ["other"]}, [SUBSCRIBER, TOLD], **more)


@pytest.fixture
async def accounts(server: Attacked) -> Accounts:
    """With new tokens for each test: the logins of one that is closed count for ten minutes more."""
    mine, theirs = [await token_for(server.openbao, {queue: ["create", "read"]}) for queue in ("own", "other")]
    return users(server, tokens={BY_TOKEN: ("own", mine), VICTIM_BY_TOKEN: ("other", theirs)})


async def others_work(accounts: Accounts, server: Attacked) -> None:
    """Others from outside log in, a service logs in and hears of a job, and jobs of all queues run."""
    for victim in VICTIMS:
        async with connected(accounts, server, victim):
            pass
    async with accounts.connected(server.url, "api") as api, api.subscribe(live_filter("ended", "*", "*")) as heard:
        await server.works("other", "own")
        assert (await heard.next_msg(timeout=20)).subject.startswith("live.")


def connected(accounts: Accounts, server: Attacked, user: str) -> AbstractAsyncContextManager[Client]:
    return logged_in(server.url, **accounts.access(server.url, user).options())


@pytest.mark.parametrize("user", ALL)
async def test_all_connections_of_one_user_are_not_those_of_others(
    accounts: Accounts, server: Attacked, user: str
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(ALL[user]):
            await stack.enter_async_context(connected(accounts, server, user))
        with pytest.raises((nats.errors.Error, OSError)):
            await stack.enter_async_context(connected(accounts, server, user))
        if user == BY_TOKEN:
            await until_true(lambda: TOO_MANY in server.log("nats-auth-1"))
        else:
            await until_true(lambda: "maximum account active connections exceeded" in server.log("nats-1"))
        await others_work(accounts, server)


@pytest.mark.parametrize("user", [BY_KEY, BY_TOKEN])
async def test_a_connections_subscriptions_are_bounded(accounts: Accounts, server: Attacked, user: str) -> None:
    async with connected(accounts, server, user) as client:
        for _ in range(SUBSCRIPTIONS + 1):
            await client.subscribe(live_filter("ended", queue_token("own"), JOB))
        await until_true(lambda: client.is_closed)
        assert "maximum subscriptions exceeded" in str(client.last_error)
        await others_work(accounts, server)
