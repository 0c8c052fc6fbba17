"""What its calls alone cost a client: requests to Vault by aiohttp, awaited publishes by nats-py, both on uvloop.

`python -m benchmarks.bare_calls vault|nats` reads the stack's settings as JSON from standard input, makes `CALLS` calls
of `CLIENTS` clients, and prints the milliseconds of its own CPU that each took.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec
import uvloop

from benchmarks.filled import connected

CALLS: Final = 2000
CLIENTS: Final = 8
STREAM: Final = "BENCH"
MADE: Final = CALLS + CALLS // CLIENTS
"""With those before the clock starts."""
BODY: Final = b"x" * 300
"""About as much as a fact has."""

Call = Callable[[], Awaitable[object]]


@asynccontextmanager
async def lookups(env: Mapping[str, str]) -> AsyncIterator[Call]:
    """Calls that have Vault look up the client's token."""
    async with aiohttp.ClientSession(headers={"X-Vault-Token": env["STINT_TOKEN"]}) as http:

        async def lookup() -> None:
            async with http.get(f"{env['VAULT_ADDR']}/v1/auth/token/lookup-self") as answer:
                await answer.read()

        yield lookup


@asynccontextmanager
async def publishes(env: Mapping[str, str]) -> AsyncIterator[Call]:
    """Calls that publish a message, which NATS acknowledges, to a stream of its own."""
    async with connected(env) as client:
        stream = client.jetstream()
        await stream.add_stream(name=STREAM, subjects=["bench"])
        yield lambda: stream.publish("bench", BODY)
        await stream.delete_stream(STREAM)


async def main() -> float:
    """Milliseconds of CPU for each call."""
    opened = {"vault": lookups, "nats": publishes}[sys.argv[1]]
    async with opened(msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, str])) as call:

        async def client() -> None:
            for _ in range(CALLS // CLIENTS):
                await call()

        await client()  # what is made once, such as connections
        start = time.process_time()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return (time.process_time() - start) * 1000 / CALLS


if __name__ == "__main__":
    print(uvloop.run(main()))  # noqa: T201 - to whoever started it
