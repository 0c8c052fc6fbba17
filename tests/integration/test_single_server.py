"""One server that stands still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.jetstream import Broker
from stint.jetstream.wire import connection
from tests.support.brokers import started
from tests.support.servers import NatsProcess
from tests.support.waiting import meanwhile, until_true

pytestmark = pytest.mark.soak

CHUNK = b"x" * 512 * 1024
CHUNKS = 120
"""Together more than the system keeps for a connection on its way."""


async def test_a_frozen_server_is_left_with_what_it_has_not_taken(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PING_INTERVAL", 0.2)
    with capture_logs() as said:  # from the begin: its pings may be unanswered before it is stuck
        async with started(nats_process.url) as broker, stuck(broker, nats_process):
            async with asyncio.timeout(10):
                await broker.lost.wait()
            assert not broker.connected.is_set()
            assert [(line["event"], line["error"]) for line in said if "error" in line] == [
                ("nats connection lost", "pings were not answered: stale connection.")
            ]
            nats_process.resume()
            async with asyncio.timeout(30):
                await broker.wait_connected()


async def test_a_connection_that_the_server_closes_is_lost_in_one_line(nats_process: NatsProcess) -> None:
    async with started(nats_process.url) as broker:
        await broker.wait_connected()
        with capture_logs() as said:
            await nats_process.kill()
            await broker.lost.wait()
        assert said[0]["event"] == "nats connection lost"
        assert [line["error"] for line in said].count("The server closed the connection.") == 1


async def test_a_frozen_server_is_left_when_its_connection_is_to_be_replaced(nats_process: NatsProcess) -> None:
    async with started(nats_process.url) as broker, stuck(broker, nats_process):
        lost = broker.lost
        with capture_logs() as said:
            await broker.replace()
        assert lost.is_set()
        assert said == [], "it was meant to be left"


async def test_a_connection_to_a_frozen_server_is_closed_with_what_it_has_not_taken(nats_process: NatsProcess) -> None:
    async with started(nats_process.url) as broker, stuck(broker, nats_process), asyncio.timeout(10):
        await broker.close()


@asynccontextmanager
async def stuck(broker: Broker, server: NatsProcess) -> AsyncIterator[None]:
    """The server stands still, and data for it waits in this process."""
    await broker.wait_connected()
    server.pause()
    async with meanwhile(*(unanswered(broker) for _ in range(CHUNKS))):
        await until_true(lambda: broker.client.pending_data_size)
        yield


async def unanswered(broker: Broker) -> None:
    """Send, and wait until it is cancelled."""
    with pytest.raises(BrokerUnavailableError):
        await broker.request("nobody.listens", CHUNK)
    await asyncio.Event().wait()
