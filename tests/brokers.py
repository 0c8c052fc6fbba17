"""Connections to NATS for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stint.jetstream import Broker, declare
from stint.jetstream.topology import stream_configs


@asynccontextmanager
async def connected(url: str, *, fresh: bool = False) -> AsyncIterator[Broker]:
    """A connection with all streams declared; `fresh` throws away those that are there."""
    broker = Broker(url, name="test")
    broker.start()
    await broker.wait_connected()
    if fresh:
        for config in reversed(stream_configs(1)):
            await broker.api(f"STREAM.DELETE.{config['name']}")
    await declare(broker)
    try:
        yield broker
    finally:
        await broker.close()
