"""Connections to NATS for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.jetstream import Access, Broker, declare
from stint.jetstream.topology import stream_configs
from stint_runner.retry import retry


@asynccontextmanager
async def connected(access: Access | str, *, fresh: bool = False) -> AsyncIterator[Broker]:
    """A connection with all streams declared; `fresh` throws away those that are there."""
    broker = Broker(access, name="test")
    broker.start()
    await broker.wait_connected()
    if fresh:
        for config in reversed(stream_configs(1)):
            await broker.api(f"STREAM.DELETE.{config['name']}")
    await declare_anew(broker)
    try:
        yield broker
    finally:
        await broker.close()


async def declare_anew(broker: Broker, replicas: int = 1) -> None:
    """Declare streams that may have been deleted a moment ago: once in some thousand times NATS refuses that."""
    errors = (BrokerUnavailableError, BrokerRefusedError)
    await retry(lambda: declare(broker, replicas), on=errors, within=30)
