"""What `notify.py` and `collect.py` share: a subscriber's connection, and the messages of one of its two consumers.

Needs NATS_URL (STINT_NATS_CACERT if the server's certificate is one of your own), and STINT_NATS_NKEY_FILE and
STINT_NATS_INBOX_PREFIX of a subscriber. Uses nothing of Stint.
"""

import os
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg


async def told(error: Exception) -> None:
    """The client would log each error, so each attempt to connect again, with a traceback."""
    print(f"NATS: {error}", file=sys.stderr, flush=True)


async def connected() -> Client:
    """A connection that is kept up: what is stored meanwhile is received afterwards."""
    cacert = os.environ.get("STINT_NATS_CACERT")
    options: dict[str, Any] = {"tls": ssl.create_default_context(cafile=cacert)} if cacert else {}
    return await nats.connect(
        os.environ["NATS_URL"],
        nkeys_seed=os.environ["STINT_NATS_NKEY_FILE"],
        inbox_prefix=os.environ["STINT_NATS_INBOX_PREFIX"],
        max_reconnect_attempts=-1,
        error_cb=told,
        **options,
    )


async def messages(connection: Client, stream: str, name: str) -> AsyncIterator[Msg]:
    """What a subscriber's consumer gets from the stream. What is not acknowledged comes again half a minute later."""
    consumer = await connection.jetstream(prefix="JS.stint").pull_subscribe_bind(f"sub-{name}", stream=stream)
    while True:
        try:
            batch = await consumer.fetch(100, timeout=5)
        except TimeoutError:  # nothing has happened
            continue
        for message in batch:
            yield message
