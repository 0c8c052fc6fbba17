"""Runner pools whose queues are a pattern: `stint nats-auth` gives them the queues that have jobs, and no others."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import work_subject
from stint.jetstream import Broker, JetStreamWorkQueues
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.requests import DeniedError
from stint.ports import Turn, WorkQueues
from tests.support.accounts import Accounts, NatsAuth, accepted, nats_auth
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import until

A, B, OTHER = (queue_token(name) for name in ("net-a", "net-b", "deploys"))
NETS = QueuePatterns.parse("net-*")
SMALL = 24_000
"""Bytes of the largest message of a server, in which permissions for a few queues fit."""


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", auth=True, pools={"subnet": "net-*"})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with accounts.declared(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def auth(accounts: Accounts, server: NatsProcess, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[NatsAuth]:
    async with nats_auth(accounts, server, openbao, tmp_path / "auth") as auth:
        yield auth


@pytest.fixture
async def operator(accounts: Accounts, server: NatsProcess) -> AsyncIterator[Broker]:
    async with accounts.connected(server.url, "operator") as broker:
        yield broker


async def submit(operator: Broker, *tokens: str) -> None:
    """Give these queues a job, and return once NATS has it in WORK."""
    for token in tokens:
        await operator.publish(f"ev.{secrets.token_hex(12)}.{token}.submitted", b"{}")
        await until(lambda token=token: Stream(operator, WORK).last(work_subject(token)))  # type: ignore[misc]


@asynccontextmanager
async def pool(accounts: Accounts, server: NatsProcess) -> AsyncIterator[tuple[Broker, WorkQueues]]:
    """The connection of a runner of the pool, and the queues that it sees there."""
    async with accounts.connected(server.url, "subnet") as broker:
        queues = JetStreamWorkQueues(broker, lease=10, served=NETS)
        await queues.start()
        yield broker, queues


async def is_permitted(broker: Broker, token: str) -> bool:
    try:
        await broker.api(f"CONSUMER.INFO.{WORK}.{consumer_name(token)}")
    except DeniedError:
        return False
    return True


@pytest.mark.usefixtures("auth")
async def test_a_new_queue_is_permitted_when_it_has_a_job_and_others_never(
    accounts: Accounts, server: NatsProcess, operator: Broker
) -> None:
    await submit(operator, A, OTHER)
    async with pool(accounts, server) as (broker, queues), queues.hints() as hints:
        assert set(await queues.pending()) == {A}
        first = broker.client.client_id
        assert (await queues.look(A)).turn is Turn.FREE
        with pytest.raises(DeniedError):
            await queues.look(OTHER)
        with pytest.raises(DeniedError):
            await queues.look(B)
        assert broker.client.client_id == first, "which is no reason to connect again"
        await submit(operator, B)
        assert (await anext(hints)).token == B
        assert await queues.pull(B, 1, await queues.look(B))
        assert broker.client.client_id != first
        await submit(operator, A)
        assert (await anext(hints)).token == A, "its subscriptions are as before"
        assert await queues.pull(A, 1, await queues.look(A))
        with pytest.raises(DeniedError):
            await broker.log_in_again(f"CONSUMER.CREATE.{WORK}.other.{work_subject(OTHER)}")


async def test_without_the_service_a_runner_keeps_its_connection(
    accounts: Accounts, server: NatsProcess, operator: Broker, auth: NatsAuth
) -> None:
    await submit(operator, A)
    async with pool(accounts, server) as (broker, queues):
        first, broker.timeout = broker.client.client_id, 1
        await auth.kill()
        await submit(operator, B)
        with pytest.raises(BrokerUnavailableError):
            await queues.look(B)
        assert broker.client.client_id == first
        assert await queues.pull(A, 1, await queues.look(A))
        broker.timeout = 5
        await auth.start()
        await until(lambda: accepted(accounts.access(server.url, "subnet")))
        assert await queues.pull(B, 1, await queues.look(B))


async def test_with_more_queues_than_fit_those_of_running_jobs_come_first(
    accounts: Accounts, server: NatsProcess, operator: Broker, openbao: OpenBao, tmp_path: Path
) -> None:
    """And the others in turns."""
    names = [f"net-{number}" for number in range(60)]
    tokens = [queue_token(name) for name in names]
    held = tokens[::20]
    await submit(operator, *tokens)
    async with accounts.connected(server.url, "runner") as broker:
        every = JetStreamWorkQueues(broker, lease=60)
        await every.start()
        for token in held:
            assert await every.pull(token, 1, await every.look(token))
    server.settings += f"max_payload: {SMALL}\n"
    server.reload()
    found = set[str]()
    async with nats_auth(accounts, server, openbao, tmp_path / "auth"):
        while found != set(tokens):
            async with pool(accounts, server) as (broker, _):
                permitted = [token for token in tokens if await is_permitted(broker, token)]
            assert set(held) <= set(permitted) < set(tokens)
            found.update(permitted)
