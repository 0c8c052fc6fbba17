"""What becomes of submissions that runners have acknowledged: they are removed, and no others."""

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import removal_subject, work_subject
from stint.jetstream import Broker, declare, serve_consumers, serve_removals
from stint.jetstream.consuming.consumers import consumer_info
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.fair import answer_fairly
from stint.jetstream.wire.protocol import sequence_of
from stint.ports import Delivery, Turn, WorkQueues
from tests.support.accounts import Accounts, nats_auth
from tests.support.brokers import connected, pulled, work_queues
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import meanwhile, until

OWN, OTHER = queue_token("own"), queue_token("other")


@pytest.fixture
async def broker(nats_process: NatsProcess) -> AsyncIterator[Broker]:
    """That of a runner of one queue and of a projector, which removes."""
    async with connected(nats_process.url) as broker, meanwhile(serve_removals(broker)):
        yield broker


async def submit(broker: Broker, token: str) -> int:
    """Its sequence in WORK."""
    job_id = secrets.token_hex(12)
    await broker.publish(f"ev.{job_id}.{token}.submitted", b"{}")

    async def arrived() -> int:
        last = await Stream(broker, WORK).last(work_subject(token))
        return sequence_of(last) if last and job_id in str(last.headers) else 0

    return await until(arrived)


async def taken(queues: WorkQueues, token: str = OWN) -> Delivery:
    look = await until(lambda: queues.look(token), lambda look: look.turn is not Turn.DENIED)
    return await pulled(queues, look, token)


async def in_work(broker: Broker) -> set[int]:
    return {sequence_of(message) async for page in Stream(broker, WORK).pages() for message in page}


async def until_left(broker: Broker, *sequences: int) -> None:
    await until(lambda: in_work(broker), lambda found: found == {*sequences})


async def test_a_request_that_cannot_be_answered_is_logged_and_the_next_one_is_answered(broker: Broker) -> None:
    async def answer(message: Msg) -> None:
        await broker.send(message.reply, b"%d" % (1 // len(message.data)))

    async def asked() -> bytes:
        with suppress(BrokerUnavailableError):  # nobody listens yet
            return (await broker.request("asked.one", b".")).data
        return b""

    with capture_logs() as said:
        async with meanwhile(answer_fairly(broker, "asked.*", "those", answer, of_a_queue=2)):
            await until(asked)
            await broker.send("asked.one")
            assert await asked() == b"1"
    assert [(line["event"], line["asked"]) for line in said] == [("a request could not be answered", "those")]


async def test_what_was_acknowledged_is_removed_with_all_that_was_left_before(broker: Broker) -> None:
    queues = await work_queues(broker, "own")
    for _ in range(3):
        await submit(broker, OWN)
    waits, theirs = await submit(broker, OWN), await submit(broker, OTHER)
    for _ in range(2):  # their removals were lost
        await broker.request((await taken(queues)).ack_subject, Msg.Ack.Ack)
    await (await taken(queues)).ack()
    await until_left(broker, waits, theirs)


async def test_who_asks_removes_nothing_that_is_not_acknowledged(broker: Broker) -> None:
    queues = await work_queues(broker, "own")
    held, waits, theirs = await submit(broker, OWN), await submit(broker, OWN), await submit(broker, OTHER)
    delivery = await taken(queues)
    for _ in range(3):
        for token in (OWN, OTHER, "mf", "!!", "no", "ö", "*", ">", "a" * 3000):
            await broker.send(removal_subject(token))
        await broker.send(f"removal.{OWN}.{held}")
    last = await submit(broker, third := queue_token("third"))
    await (await taken(queues, third)).ack()
    await until_left(broker, held, waits, theirs)
    assert last not in await in_work(broker)
    await delivery.ack()
    await until_left(broker, waits, theirs)


async def test_what_was_asked_before_work_was_lost_removes_nothing_of_the_new_one(broker: Broker) -> None:
    """It counts anew: a sequence that was acknowledged is that of another job."""
    queues = await work_queues(broker, "own")
    for _ in range(3):
        await submit(broker, OWN)
        await (await taken(queues)).ack()
    await broker.api(f"STREAM.DELETE.{WORK}")
    await declare(broker)
    await until(lambda: in_work(broker), lambda found: len(found) == 3)
    delivery = await taken(await work_queues(broker, "own"))
    await broker.send(removal_subject(OWN))
    await submit(broker, OTHER)
    await (await taken(queues, OTHER)).ack()  # asks behind it
    await until(lambda: in_work(broker), lambda found: len(found) == 3)
    assert delivery.sequence in await in_work(broker)


async def test_a_flood_of_requests_ends(broker: Broker) -> None:
    for number in range(20_000):
        await broker.client.publish(removal_subject(f"q{number}"), b"")
    await broker.client.flush()
    queues = await work_queues(broker, "own")
    await submit(broker, OWN)
    await (await taken(queues)).ack()

    async def asked_again() -> bool:
        """As the next ack of the queue does, in case this one's request was dropped."""
        await broker.send(removal_subject(OWN))
        return not await in_work(broker)

    await until(asked_again)


LOGINS = [
    *(("runner", served) for served in ("", "own", "*")),
    *(("runners/r1", served) for served in ("", "own")),
    ("names", "own"),
    *(("pattern", served) for served in ("own*", "own", "")),
    *(("every", served) for served in ("*", "own", "")),
]
"""Each kind of a runner's login, and the queues that the runner is told to serve. Who is told none finds out."""


async def test_whatever_its_login_a_runner_has_consumers_and_its_jobs_removed(tmp_path: Path, openbao: OpenBao) -> None:
    pools = {"names": "own", "pattern": "own*", "every": "*"}
    accounts = Accounts(tmp_path / "keys", auth=True, runners=["runners/r1"], pools=pools)
    async with (
        accounts.declared(tmp_path / "nats") as server,
        nats_auth(server, openbao, tmp_path / "auth"),
        server.connected("operator") as operator,
        server.connected("projector") as projector,
        meanwhile(serve_removals(projector)),
        meanwhile(serve_consumers(projector, in_memory=True)),
    ):
        for user, served in LOGINS:
            await submit(operator, OWN)
            async with server.connected(user) as runner:
                delivery = await taken(await work_queues(runner, served))
                consumer = await consumer_info(operator, consumer_name(OWN))
                assert consumer
                assert consumer.lease == delivery.lease
                await delivery.ack()
                await until_left(operator)
            await operator.api(f"CONSUMER.DELETE.{WORK}.{consumer_name(OWN)}")
