"""Connections to NATS for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import AnyEvent
from stint.core.job import Job
from stint.core.names.patterns import QueuePatterns
from stint.jetstream import Access, Broker, JetStreamEventLog, JetStreamWorkQueues, declare
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.jetstream.streams.topology import stream_configs
from stint.ports import EventLog, Look, WorkQueues
from stint_runner.retry import retry
from tests.support.events import TOKEN
from tests.support.servers import READY
from tests.support.waiting import PATIENCE, until

LEASE = 2 * PATIENCE
"""Seconds: what comes again only at its end comes too late for any test."""


@asynccontextmanager
async def started(access: Access | str, name: str = "test", prefix: str = "$JS.API") -> AsyncIterator[Broker]:
    """A connection that need not be there yet."""
    broker = Broker(access, name=name, prefix=prefix)
    broker.start()
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def connected(access: Access | str, *, fresh: bool = False) -> AsyncIterator[Broker]:
    """A connection with all streams declared; `fresh` throws away those that are there."""
    async with started(access) as broker:
        await broker.wait_connected()
        if fresh:
            await until(lambda: _declared_empty(broker))
        else:
            await declare_anew(broker)
        yield broker


async def _declared_empty(broker: Broker) -> bool:
    """Whether all streams are new and empty.

    On a machine that stands still for a moment, a stream that is made while NATS still removes the files of a deleted
    one with its name can come with messages of that.
    """
    names = [config["name"] for config in reversed(stream_configs(1))]
    for name in names:
        await _delete(broker, name)
    await declare_anew(broker)
    return not any([(await broker.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in names])


async def _delete(broker: Broker, stream: str) -> None:
    """Delete a stream, if it is there. Another refusal would leave the next test what the last one has stored."""

    async def is_gone() -> bool:
        answer = await broker.api(f"STREAM.DELETE.{stream}")
        return "error" not in answer or answer["error"]["code"] == HTTPStatus.NOT_FOUND

    await until(is_gone)


async def happen(broker: Broker, job_id: str, *events: AnyEvent, token: str = TOKEN) -> None:
    """Append these events to the log."""
    for event in events:
        await JetStreamEventLog(broker).append(token, job_id, event)


async def loaded(log: EventLog, job_id: str) -> Job:
    """A job that is in the log."""
    job = await log.load(job_id)
    assert job is not None
    return job


async def work_queues(
    broker: Broker, served: str = "", *, lease: float = LEASE, replicas: int = 1
) -> JetStreamWorkQueues:
    """Those of a runner that listens to hints already, and serves the queues of these patterns."""
    queues = JetStreamWorkQueues(broker, lease=lease, served=QueuePatterns.parse(served), replicas=replicas)
    await queues.start()
    return queues


async def delivered(queues: WorkQueues, token: str = TOKEN) -> JetStreamDelivery:
    """The queue's next job. WORK takes it from EVENTS a moment after its submission."""
    delivery = await until(lambda: queues.pull(token, 1))
    assert isinstance(delivery, JetStreamDelivery)
    return delivery


async def pulled(queues: WorkQueues, look: Look | None = None, token: str = TOKEN) -> JetStreamDelivery:
    """What there is to pull of a queue."""
    delivery = await queues.pull(token, PATIENCE, look)
    assert isinstance(delivery, JetStreamDelivery)
    return delivery


async def declare_anew(broker: Broker, replicas: int = 1) -> None:
    """Declare streams.

    Once in some thousand times NATS refuses those that were deleted a moment ago, and a cluster that is just starting
    refuses until it has elected who makes streams.
    """
    errors = (BrokerUnavailableError, BrokerRefusedError)
    await retry(lambda: declare(broker, replicas), on=errors, within=READY)
