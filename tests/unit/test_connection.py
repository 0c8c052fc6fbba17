"""What a process does with its connection to NATS, without a server."""

import asyncio

from stint.jetstream import Broker
from tests.support.waiting import PATIENCE, meanwhile


async def test_what_is_done_while_there_is_a_connection_begins_anew_after_each_outage() -> None:
    broker, said = Broker("nats://127.0.0.1:1"), asyncio.Queue[str]()

    async def work() -> None:
        said.put_nowait("begun")
        try:
            await asyncio.Event().wait()
        finally:
            said.put_nowait("ended")

    async with asyncio.timeout(PATIENCE), meanwhile(broker.anew(work)):
        for _ in range(2):
            await asyncio.sleep(0.05)
            assert said.empty(), "there is no connection"
            broker.lost = asyncio.Event()
            broker.connected.set()
            assert await said.get() == "begun"
            broker.connected.clear()
            broker.lost.set()
            assert await said.get() == "ended"
