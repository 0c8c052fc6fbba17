"""What the API costs when it lists many kept jobs; no answer may grow with history."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from tests.support.waiting import meanwhile, until, until_true

from benchmarks.filled import connected, job_ids, publish, queue_of, stored_events, stored_view
from benchmarks.measure import Goal, Row, Work, alone, compared, memory_of, sized, timed
from benchmarks.stack import Stack, stack
from stint.core.names.streams import EVENTS, JOBS_BUCKET, kv_stream

COUNTS: Final = tuple(int(n) for n in os.environ.get("BENCH_KEPT", "10000,100000,300000").split(","))
QUEUES: Final = 50
FILLED: Final = 300
"""Seconds that the API may take to have all."""


async def rows(times: int) -> Sequence[Row]:
    """Lists, counts and start, with few and many kept jobs."""
    found: list[Row] = []
    async with stack(runners=0) as stint, projector_stopped(stint):
        have = 0
        for count in COUNTS:
            await _fill(stint, have, count)
            have = count
            found += await _answers(stint, count, times)
            found.append(await _start(stint, have))
    return found


@asynccontextmanager
async def projector_stopped(stint: Stack) -> AsyncIterator[None]:
    """Views of jobs that the log does not have would be removed by it."""
    pid = stint.pid("projector-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _fill(stint: Stack, have: int, count: int) -> None:
    async with connected(stint.env) as client:
        ids = job_ids(count)[have:]
        views = (stored_view(job_id, queue_of(number, QUEUES), 4 * number + 1) for number, job_id in enumerate(ids))
        await publish(client, kv_stream(JOBS_BUCKET), views)
    await until_listed(stint, count)


async def until_listed(stint: Stack, count: int, seconds: float = FILLED) -> None:
    """Wait until the API lists so many jobs."""
    await until(lambda: _kept(stint), lambda kept: kept >= count, seconds=seconds)


async def _kept(stint: Stack) -> int:
    try:
        return int((await stint.call("GET", "/v1/api/health"))["all_jobs"])
    except (RuntimeError, aiohttp.ClientError):  # it starts
        return 0


async def _answers(stint: Stack, count: int, times: int) -> list[Row]:
    async with connected(stint.env) as client:
        one = job_ids(1)[0].replace("0" * 12, "f" * 12)
        await publish(client, EVENTS, stored_events(one, "one"))

    def call(path: str) -> Work:
        return lambda: stint.call("GET", path)

    listing = call("/v1/api/job?limit=50")
    values = [await timed(listing) for _ in range(times * 10)]
    name, goal = f"{count:,} kept jobs: ", Goal({10_000: 3}.get(count, 5), unit="ms")
    found = [alone(name + "a page of the list", "ms", values, goal)]
    for path in ("/v1/api/health", "/v1/api/metrics"):
        values = [await timed(call(path)) for _ in range(times * 4)]
        found.append(alone(name + path, "ms", values, Goal(3, unit="ms")))
    get = call(f"/v1/api/job/{one}")
    undisturbed = [await timed(get) for _ in range(times * 10)]
    values = await _while(listing, get, times * 10)
    found.append(compared(name + "GET of one while somebody lists", "ms", values, "alone", undisturbed, Goal(1.5)))
    found.append(sized("memory of API", "MB", [memory_of(stint.pid("api-1"))], count, "kept jobs"))
    return found


async def _while(busy: Work, wanted: Work, times: int) -> list[float]:
    """Milliseconds of one call while another is made again and again."""

    async def forever() -> None:
        while True:
            await busy()

    async with meanwhile(forever()):
        await asyncio.sleep(0)
        return [await timed(wanted) for _ in range(times)]


async def _start(stint: Stack, count: int) -> Row:
    """The API is killed, and `stint dev` starts it again."""
    port_file = stint.folder / "data" / "run" / "api-1.port"
    port_file.unlink()
    os.kill(stint.pid("api-1"), signal.SIGKILL)
    await until_true(port_file.exists)
    start = time.perf_counter()
    await until_listed(stint, count)
    seconds = time.perf_counter() - start
    name = f"{count:,} kept jobs: API lists all after its start"
    goals = [Goal(3, unit="s")] if count <= 100_000 else []  # noqa: PLR2004 - which the goal was set for
    return alone(name, "s", [seconds], *goals)
