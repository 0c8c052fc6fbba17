"""What a runner of some queues has acknowledged: a projector removes it, and nothing of other queues."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from stint.core.names.ids import queue_token
from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import WORK
from stint.core.names.subjects import removal_subject, work_subject
from stint.jetstream import Broker, JetStreamEventLog, JetStreamWorkQueues, Removals
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import sequence_of
from stint.process.background import cancel
from tests.support.brokers import connected
from tests.support.events import submitted
from tests.support.servers import NatsProcess
from tests.support.waiting import until

OWN, OTHER = queue_token("own"), queue_token("other")
JOB, NEXT, THEIRS = "a" * 24, "b" * 24, "c" * 24


@pytest.fixture
async def broker(nats_process: NatsProcess) -> AsyncIterator[Broker]:
    async with connected(nats_process.url) as broker:
        yield broker


@pytest.fixture
async def queues(broker: Broker) -> AsyncIterator[JetStreamWorkQueues]:
    """Those of a runner that serves one queue, while a projector removes what it acknowledges."""
    queues = JetStreamWorkQueues(broker, lease=30, served=QueuePatterns.parse("own"))
    await queues.start()
    task = asyncio.create_task(Removals(broker).run())
    yield queues
    await cancel(task)


async def submit(broker: Broker, token: str, job_id: str) -> int:
    """Its sequence in WORK."""
    await JetStreamEventLog(broker).append(token, job_id, submitted())

    async def arrived() -> int:
        last = await Stream(broker, WORK).last(work_subject(token))
        return sequence_of(last) if last and job_id in str(last.headers) else 0

    return await until(arrived)


async def end_next(queues: JetStreamWorkQueues) -> int:
    delivery = await queues.pull(OWN, 10)
    assert delivery
    await delivery.ack()
    return delivery.sequence


async def in_work(broker: Broker) -> set[int]:
    return {sequence_of(message) async for page in Stream(broker, WORK).pages() for message in page}


async def test_what_was_acknowledged_is_removed(broker: Broker, queues: JetStreamWorkQueues) -> None:
    await submit(broker, OWN, JOB)
    waits = await submit(broker, OWN, NEXT)
    await end_next(queues)
    await until(lambda: in_work(broker), lambda found: found == {waits})


async def test_what_is_not_of_the_queue_that_the_subject_names_stays(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    theirs, mine = await submit(broker, OTHER, THEIRS), await submit(broker, OWN, JOB)
    for sequence in (theirs, mine + 1, 0, -1, "1e9", "²", "9" * 18, "9" * 500):
        await broker.send(removal_subject(OWN, sequence))
    await broker.send(removal_subject("*", mine))
    await broker.send(f"removal.{OWN}.{mine}.{mine}")
    assert await end_next(queues) == mine
    await until(lambda: in_work(broker), lambda found: found == {theirs})


@pytest.mark.usefixtures("queues")
async def test_after_a_restart_of_nats_it_goes_on(nats_process: NatsProcess, broker: Broker) -> None:
    left, waits = await submit(broker, OWN, JOB), await submit(broker, OWN, NEXT)
    await nats_process.restart()
    await broker.wait_connected()
    await broker.send(removal_subject(OWN, left))
    await until(lambda: in_work(broker), lambda found: found == {waits})
