"""A publisher that sends junk for its queue as fast as it is told to, and waits for no answers."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.jetstream import Access

TURN = 0.01
"""Seconds between two turns of sending."""
MADE_UP = 5
"""Turns that are made up for at a time where a machine is too busy for them. With more, the flood would have this
process for itself, and the test that it is made for would not go on."""


@asynccontextmanager
async def flood(access: Access, qname: str, *, per_minute: float) -> AsyncIterator[None]:
    """Send messages that are no submissions during the block, not so many where that takes too long."""
    client = access.client()
    await client.connect(access.servers, allow_reconnect=False, **access.options())
    token, loop = queue_token(qname), asyncio.get_running_loop()
    most = max(1, round(per_minute / 60 * TURN * MADE_UP))

    async def send() -> None:
        begun, sent = loop.time(), 0
        while True:
            due = int((loop.time() - begun) * per_minute / 60)
            for _ in range(min(due - sent, most)):
                await client.publish(EventAddress("submitted", token, secrets.token_hex(12)).subject, b"{}")
            sent = due
            await asyncio.sleep(TURN)

    sending = asyncio.create_task(send())
    try:
        yield
        if sending.done():
            sending.result()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await client.close()
