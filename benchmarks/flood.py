"""How long a job waits for its start while a publisher floods another queue, beside a bare write to the same server.

Run it alone: `python -m benchmarks.flood`. The disk's rate of syncs decides; compare the lines of one run.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Final

import typer
from tests.support.accounts import connected, token_for
from tests.support.flood import flood
from tests.support.servers import OpenBao

from benchmarks.measure import percentile
from benchmarks.stack import Stack, opened, stack
from stint.core.events import Started
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress, live_filter
from stint.jetstream import Access, Broker

CASES: Final = ((10_000, 500), (29_000, 500), (100_000, 500), (100_000, 10**9))
"""Messages a minute, and how many a second `stint nats-auth` lets a publisher send."""
IDLE: Final = 20
"""Seconds for which nobody floods, before."""
SECONDS: Final = 60
"""Of the flood. Its junk is still rejected when it is over, so that each case has a stack of its own."""
PATIENCE: Final = 60
QNAME: Final = "own"
OTHER: Final = "other"


async def main() -> None:
    """Print a line for each case."""
    for rate, limit in CASES:
        settings = {"STINT_NATS_AUTH_RATE": str(limit), "STINT_NATS_AUTH_SECONDS": "3600"}
        async with stack(1, **settings) as stint, opened(stint) as runner:
            vault = OpenBao(stint.env["VAULT_ADDR"], stint.env["VAULT_TOKEN"])
            publisher, mallory = [
                Access(url=stint.env["NATS_URL"], user=QNAME, password=await token_for(vault, {QNAME: ["create"]}))
                for _ in range(2)
            ]
            await stint.end(await stint.submit((await stint.tickets(1))[0], queue=OTHER))
            async with connected(publisher) as mine:
                idle = await _probes(stint, runner, mine, IDLE)
                async with flood(mallory, QNAME, per_minute=rate):
                    flooded = await _probes(stint, runner, mine, SECONDS)
        for name, (starts, writes) in (("nobody floods", idle), (f"{rate}/min, limit {limit}/s", flooded)):
            typer.echo(f"{name}: start {_shown(starts)}, bare write {_shown(writes)}")


async def _probes(
    stint: Stack, runner: Broker, publisher: Broker, seconds: float
) -> tuple[Sequence[float], Sequence[float]]:
    starts: list[float] = []
    writes: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        starts.append(await _start(stint, runner))
        begun = time.perf_counter()
        subject = EventAddress("submitted", queue_token(QNAME), secrets.token_hex(12)).subject
        if "error" in (answer := await publisher.publish(subject, b"{}")):
            raise RuntimeError(str(answer))
        writes.append(time.perf_counter() - begun)
    return starts, writes


async def _start(stint: Stack, runner: Broker) -> float:
    """Seconds from a submission to the job's `started`."""
    (ticket,) = await stint.tickets(1)
    async with runner.subscribe(live_filter(Started.kind, queue_token(OTHER), "*")) as heard:
        await runner.client.flush()
        begun = time.perf_counter()
        job_id = await stint.submit(ticket, queue=OTHER)
        await heard.next_msg(timeout=PATIENCE)
        took = time.perf_counter() - begun
    await stint.end(job_id)
    return took


def _shown(seconds: Sequence[float]) -> str:
    p50, p99 = (percentile(seconds, percent) * 1000 for percent in (50, 99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms ({len(seconds)})"


if __name__ == "__main__":
    asyncio.run(main())
