"""Live messages as triggers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from stint.jetstream.broker import Broker


@asynccontextmanager
async def triggered(broker: Broker, subject: str) -> AsyncIterator[asyncio.Event]:
    """An event that each message on the subject sets, during the block.

    Anybody may publish there, so the content of messages is ignored.
    """
    event = asyncio.Event()

    async def on_message(_message: Msg) -> None:
        event.set()

    async with broker.subscribe(subject, cb=on_message):
        yield event
