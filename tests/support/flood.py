"""A publisher that sends junk for its queue as fast as it is told to, waits for no answers, and comes back."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

import nkeys

from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.jetstream import Access
from stint.process.background import cancel
from tests.support.waiting import meanwhile

TURN = 0.01
"""Seconds between two turns of sending."""
MADE_UP = 5
"""Turns that are made up for at a time where a machine is too busy for them. With more, the flood would have this
process for itself, and the test that it is made for would not go on."""


@asynccontextmanager
async def flood(access: Access, qname: str, *, per_minute: float) -> AsyncIterator[None]:
    """Send messages that are no submissions during the block, not so many where that takes too long.

    Whenever the server closes the connection, another one follows a turn later.
    """
    async with meanwhile(_come_back(access, qname, per_minute / 60 * TURN)):
        yield


async def _come_back(access: Access, qname: str, per_turn: float) -> None:
    url = urlsplit(access.url)
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            async with AsyncExitStack() as closing:
                closing.push_async_callback(writer.wait_closed)
                closing.callback(writer.close)
                log_in(writer, access, await reader.readline())
                sending = asyncio.create_task(_send(writer, qname, per_turn))
                closing.push_async_callback(cancel, sending)
                await reader.read()  # until the server closes the connection
        await asyncio.sleep(TURN)


def junk(qname: str) -> bytes:
    """A message that is no submission."""
    subject = EventAddress("submitted", queue_token(qname), secrets.token_hex(12)).subject
    return b"PUB %b 2\r\n{}\r\n" % subject.encode()


def log_in(writer: asyncio.StreamWriter, access: Access, greeting: bytes) -> None:
    """Answer the server's first line."""
    if not greeting:
        raise ConnectionResetError
    nonce = json.loads(greeting.removeprefix(b"INFO "))["nonce"]
    options = {"verbose": False, "protocol": 1, **_credentials(access, nonce)}
    writer.write(b"CONNECT %b\r\n" % json.dumps(options).encode())


async def _send(writer: asyncio.StreamWriter, qname: str, per_turn: float) -> None:
    loop = asyncio.get_running_loop()
    begun, sent = loop.time() - TURN, 0
    while not writer.is_closing():
        due = int((loop.time() - begun) / TURN * per_turn)
        for _ in range(min(due - sent, max(1, round(per_turn * MADE_UP)))):
            writer.write(junk(qname))
        sent = due
        await asyncio.sleep(TURN)


def _credentials(access: Access, nonce: str) -> Mapping[str, str]:
    if not access.nkey:
        return {"user": access.user, "pass": access.password}
    key = nkeys.from_seed(access.nkey.encode())
    signature = base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=")
    return {"nkey": key.public_key.decode(), "sig": signature.decode()}
