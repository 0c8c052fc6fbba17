"""Runner pools whose queues are a pattern: `stint nats-auth` gives them the queues that have jobs, and no others."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import work_subject
from stint.jetstream import Broker, serve_consumers
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.requests import DeniedError
from stint.natsauth.callout.keyed import PoolQueues
from stint.natsauth.roles import pool_with_jobs
from stint.natsauth.users import KeyUser
from stint.ports import Delivery, Hint, Turn, WorkQueues
from tests.support.accounts import Accounts, Guarded, NatsAuth, accepted, nats_auth
from tests.support.brokers import pulled, work_queues
from tests.support.servers import OpenBao
from tests.support.waiting import PATIENCE, meanwhile, until, until_true

A, B, OTHER = (queue_token(name) for name in ("net-a", "net-b", "deploys"))
SMALL = 24_000
"""Bytes of the largest message of a server, in which permissions for a few queues fit."""


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", auth=True, pools={"subnet": "net-*"})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[Guarded]:
    """With a projector that makes consumers."""
    async with (
        accounts.declared(tmp_path / "nats") as server,
        server.connected("projector") as projector,
        meanwhile(serve_consumers(projector, in_memory=True)),
    ):
        yield server


@pytest.fixture
async def auth(server: Guarded, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[NatsAuth]:
    async with nats_auth(server, openbao, tmp_path / "auth") as auth:
        yield auth


async def submit(operator: Broker, *tokens: str) -> None:
    """Give these queues a job, and return once NATS has it in WORK."""
    for token in tokens:
        await operator.publish(f"ev.{secrets.token_hex(12)}.{token}.submitted", b"{}")
        await until(lambda token=token: Stream(operator, WORK).last(work_subject(token)))  # type: ignore[misc]


Pool = Callable[[], AbstractAsyncContextManager[tuple[Broker, WorkQueues, AsyncIterator[Hint]]]]


@pytest.fixture
def pool(server: Guarded) -> Pool:
    """Gives the connection of a runner of the pool, the queues that it sees there, and its hints."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[Broker, WorkQueues, AsyncIterator[Hint]]]:
        async with server.connected("subnet") as broker:
            queues = await work_queues(broker, "net-*", lease=10)
            async with queues.hints() as hints:
                yield broker, queues, hints

    return connected


async def is_permitted(broker: Broker, token: str) -> bool:
    try:
        await broker.api(f"CONSUMER.INFO.{WORK}.{consumer_name(token)}")
    except DeniedError:
        return False
    return True


async def taken(queues: WorkQueues, hints: AsyncIterator[Hint], token: str) -> Delivery:
    """The next job of a queue that has one, once the runner may take it."""
    while (look := await queues.look(token)).turn is Turn.DENIED:
        while (await anext(hints)).token != token:
            pass
    return await pulled(queues, look, token)


@pytest.mark.usefixtures("auth")
async def test_a_new_queue_is_permitted_when_it_has_a_job_and_others_never(pool: Pool, operator: Broker) -> None:
    await submit(operator, A, OTHER)
    async with pool() as (broker, queues, hints):
        assert set(await queues.pending()) == {A}
        first = broker.client.client_id
        assert (await queues.look(A)).turn is Turn.FREE
        await submit(operator, B)
        assert broker.asks() == ""
        delivery = await taken(queues, hints, B)
        assert broker.asks() == consumer_name(B), "a login asks for the queues whose jobs it has"
        await delivery.ack()
        assert (second := broker.client.client_id) != first
        await submit(operator, A)
        assert (await anext(hints)).token == A, "its subscriptions are as before"
        await taken(queues, hints, A)
        assert (await queues.look(OTHER)).turn is Turn.DENIED
        assert await broker.ask_permission([f"CONSUMER.INFO.{WORK}.{consumer_name(OTHER)}"]) == [False]
        assert broker.client.client_id == second, "in vain is no reason to connect again"


@pytest.mark.usefixtures("auth")
async def test_a_queue_is_new_once_not_whenever_it_was_empty(pool: Pool, operator: Broker) -> None:
    tokens = [queue_token(f"net-{number}") for number in range(3)]
    connections = set()
    async with pool() as (broker, queues, hints):
        for token in 3 * tokens:
            await submit(operator, token)
            await (await taken(queues, hints, token)).ack()
            connections.add(broker.client.client_id)
    assert len(connections) == len(tokens)


@pytest.mark.usefixtures("auth")
@pytest.mark.parametrize("filtered", [{}, {"filter_subjects": ["work.a", "work.b"]}, {"filter_subject": "work.*"}])
async def test_an_operators_consumer_bars_no_pool(pool: Pool, operator: Broker, filtered: dict[str, object]) -> None:
    config = {"durable_name": "mine", "ack_policy": "explicit", **filtered}
    request = {"stream_name": WORK, "config": config}
    assert "error" not in await operator.api(f"CONSUMER.DURABLE.CREATE.{WORK}.mine", request)
    async with pool() as (broker, _, _):
        assert not await is_permitted(broker, OTHER)


@pytest.mark.soak
async def test_without_the_service_a_runner_keeps_its_connection_and_its_queues(
    server: Guarded, pool: Pool, operator: Broker, auth: NatsAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, free = Broker.ask_permission, asyncio.Event()

    async def ask_later(broker: Broker, calls: Sequence[str]) -> Sequence[bool]:
        await free.wait()
        return await ask(broker, calls)

    monkeypatch.setattr(Broker, "ask_permission", ask_later)
    await submit(operator, A)
    async with pool() as (broker, queues, hints):
        first = broker.client.client_id
        await auth.kill()
        await submit(operator, B)
        async with asyncio.timeout(PATIENCE):  # no slot waits for the login
            assert (await queues.look(B)).turn is Turn.DENIED
            await taken(queues, hints, A)
        free.set()
        assert broker.client.client_id == first
        await auth.start()
        await until(lambda: accepted(server.access("subnet")))
        look = await until(lambda: queues.look(B), lambda look: look.turn is Turn.FREE)
        await pulled(queues, look, B)


async def test_with_more_queues_than_fit_those_of_running_jobs_come_first_and_then_those_asked_for(
    server: Guarded, pool: Pool, operator: Broker, openbao: OpenBao, tmp_path: Path
) -> None:
    tokens = [queue_token(f"net-{number}") for number in range(60)]
    held = tokens[::20]
    await submit(operator, *tokens)
    async with server.connected("runner") as broker:
        every = await work_queues(broker, lease=60)
        for token in held:
            await pulled(every, await every.look(token), token)
    server.settings += f"max_payload: {SMALL}\n"
    server.reload()
    async with nats_auth(server, openbao, tmp_path / "auth"), pool() as (broker, queues, hints):
        lacking = [token for token in tokens if not await is_permitted(broker, token)]
        assert len(held) < len(tokens) - len(lacking) < len(tokens)
        await taken(queues, hints, lacking[-1])
        assert all([await is_permitted(broker, token) for token in (*held, lacking[-1])])
        assert not all([await is_permitted(broker, token) for token in tokens])


async def test_while_nats_does_not_say_what_is_in_use_its_last_word_counts(server: Guarded, operator: Broker) -> None:
    """As after the loss of a server of a cluster, which answers about its consumers late."""
    nets = KeyUser("subnet", ["net-*"], pool=True)
    queues = PoolQueues(operator)
    await submit(operator, A, OTHER)
    before = await queues.role(nets, "")
    assert before == pool_with_jobs("subnet", [A])
    await server.kill()
    assert await queues.role(nets, "") == before
    with pytest.raises(BrokerUnavailableError):
        await PoolQueues(operator).role(nets, "")


@pytest.mark.soak
@pytest.mark.usefixtures("auth")
async def test_a_new_connection_loses_no_delivery(server: Guarded, operator: Broker) -> None:
    """Of queues that are pulled all the time: none waits for the end of a lease."""
    tokens = [queue_token(f"net-{number}") for number in range(4)]
    await submit(operator, *tokens)
    async with server.connected("subnet") as broker:
        queues = await work_queues(broker, "net-*", lease=60)
        done = asyncio.Event()
        acknowledged = Counter[str]()

        async def serve(token: str) -> None:
            while not done.is_set():
                await operator.publish(f"ev.{secrets.token_hex(12)}.{token}.submitted", b"{}")
                if delivery := await queues.pull(token, 0.05, await queues.look(token)):
                    await delivery.ack()
                    acknowledged[token] += 1

        async with asyncio.TaskGroup() as group:
            for token in tokens:
                group.create_task(serve(token))
            for _ in range(4):
                before = acknowledged.copy()
                await broker.settled()
                await broker.replace()
                await until_true(lambda before=before: all(acknowledged[one] > before[one] + 5 for one in tokens))  # type: ignore[misc]
            done.set()
