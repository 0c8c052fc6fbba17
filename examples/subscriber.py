"""What `notify.py`, `collect.py` and `output.py` share: a connection, a subscriber's messages, and how they end.

Needs NATS_URL (STINT_NATS_CACERT if the server's certificate is one of your own), and STINT_NATS_NKEY_FILE and
STINT_NATS_INBOX_PREFIX of a subscriber. Uses nothing of Stint.
"""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import nats
import nats.errors
import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg


async def told(error: Exception) -> None:
    """The client would log each error, so each attempt to connect again, with a traceback."""
    print(f"NATS: {str(error) or type(error).__name__}", file=sys.stderr, flush=True)


async def connected() -> Client:
    """A connection that is kept up: what is stored meanwhile is received afterwards."""
    try:
        url, seed, inbox = (
            os.environ[name] for name in ("NATS_URL", "STINT_NATS_NKEY_FILE", "STINT_NATS_INBOX_PREFIX")
        )
    except KeyError as error:
        raise SystemExit(f"Set {error.args[0]}.") from None
    cacert = os.environ.get("STINT_NATS_CACERT")
    options: dict[str, Any] = {"tls": ssl.create_default_context(cafile=cacert)} if cacert else {}
    return await nats.connect(
        url,
        nkeys_seed=seed,
        inbox_prefix=inbox,
        max_reconnect_attempts=-1,
        error_cb=told,
        **options,
    )


async def messages(connection: Client, stream: str, name: str) -> AsyncIterator[Msg]:
    """What a subscriber's consumer gets from the stream. What is not acknowledged comes again half a minute later."""
    consumer = await connection.jetstream(prefix="JS.stint").pull_subscribe_bind(f"sub-{name}", stream=stream)
    task = asyncio.current_task()
    while task and not task.cancelling():  # a cancellation is undone in Python 3.11 if a message comes in that moment
        try:
            batch = await consumer.fetch(100, timeout=5)
        except TimeoutError:  # nothing has happened
            continue
        for message in batch:
            yield message


def run(program: Coroutine[Any, Any, None]) -> None:
    """Run a program until it ends, is interrupted, or fails, which it says in a sentence."""
    try:
        asyncio.run(program)
    except KeyboardInterrupt:
        pass
    except (nats.errors.Error, nkeys.NkeysError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
