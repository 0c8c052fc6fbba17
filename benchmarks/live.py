"""A job's output and its end as they happen, beside what Docker's own commands take."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiodocker
import msgspec
from aiodocker.containers import DockerContainer

from benchmarks.bare import IMAGE
from benchmarks.measure import Goal, Row, alone, alternately, compared, memory_of
from benchmarks.stack import Stack, stack

CLOCK: Final = 'while :; do cut -d" " -f1 /proc/uptime; sleep 0.2; done'
"""Writes the machine's uptime, which containers share, five times a second."""
LINES: Final = 20
FOLLOWERS: Final = 50
MEGABYTES: Final = 100
BIG: Final = f"head -c {MEGABYTES * 1024 * 1024} /dev/zero | tr '\\0' x | fold -w 99"
TRAP: Final = "trap 'cut -d\" \" -f1 /proc/uptime; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
"""Writes the uptime when SIGTERM comes; the shell sees it at most 10 ms later."""


async def rows(times: int) -> Sequence[Row]:
    """Kills, lines, followers, and much output."""
    async with stack() as stint, aiodocker.Docker() as docker:
        return [
            await _kill(stint, docker, times),
            await _lines(stint, docker, 1),
            await _lines(stint, docker, FOLLOWERS),
            *await _much(stint, max(1, times // 2)),
        ]


async def _output(stint: Stack, job_id: str) -> AsyncIterator[str]:
    """Lines of a job's output as its event stream has them."""
    async for name, data in stint.events(job_id):
        if name == b"end":
            return
        if name == b"output":
            for text in base64.b64decode(msgspec.json.decode(data)["data"]).decode().splitlines():
                yield text


@asynccontextmanager
async def _container(docker: aiodocker.Docker, script: str) -> AsyncIterator[DockerContainer]:
    config = {"Image": IMAGE, "Cmd": ["sh", "-c", script]}
    container = await docker.containers.create(config)
    try:
        await container.start()
        yield container
    finally:
        await container.delete(force=True)


def _uptime_ms(text: str, now: float) -> float:
    return (now - float(text)) * 1000


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def _kill(stint: Stack, docker: aiodocker.Docker, times: int) -> Row:
    ours, theirs = [], []
    for ticket in await stint.tickets(times):
        job_id = await stint.submit(ticket, queue="kill", run=("sh", "-c", TRAP))
        asked = 0.0
        async for line in _output(stint, job_id):
            if line == "ready":
                asked = _now()
                await stint.call("POST", f"/v1/api/job/kill/{job_id}")
            else:
                ours.append(-_uptime_ms(line, asked))
        async with _container(docker, TRAP) as container:
            async for line in container.log(stdout=True, follow=True):
                if line.strip() == "ready":
                    asked = _now()
                    await container.stop()
                else:
                    theirs.append(-_uptime_ms(line, asked))
                    break
    return compared("kill to SIGTERM", "ms", ours, "docker stop", theirs)


async def _lines(stint: Stack, docker: aiodocker.Docker, followers: int) -> Row:
    (ticket,) = await stint.tickets(1)
    job_id = await stint.submit(ticket, queue="lines", run=("sh", "-c", CLOCK))
    delays: list[float] = []

    async def follow() -> None:
        seen = 0
        async for line in _output(stint, job_id):
            delays.append(_uptime_ms(line, _now()))
            seen += 1
            if seen == LINES:
                return

    await asyncio.gather(*(follow() for _ in range(followers)))
    await stint.call("POST", f"/v1/api/job/kill/{job_id}")
    beside: list[float] = []
    async with _container(docker, CLOCK) as container:
        async for line in container.log(stdout=True, follow=True):
            beside.append(_uptime_ms(line, _now()))
            if len(beside) == LINES:
                break
    name = f"a line written to the line at {followers} follower{'s' if followers > 1 else ''}"
    return compared(name, "ms", delays, "docker logs -f", beside)


async def _much(stint: Stack, times: int) -> list[Row]:
    runner, grown = stint.pid("runner-1"), []
    command = ("docker", "run", "--rm", IMAGE, "sh", "-c", BIG)
    tickets = iter(await stint.tickets(times + 1))

    async def ours() -> None:
        before = memory_of(runner)
        await stint.end(await stint.submit(next(tickets), queue="much", run=("sh", "-c", BIG)))
        grown.append(memory_of(runner) - before)

    async def theirs() -> None:
        await (await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)).wait()

    both = await alternately(ours, theirs, times)
    taken, beside = ([value / 1000 for value in values] for values in both)
    return [
        compared(f"{MEGABYTES} MB of output, POST to end", "s", taken, "docker run", beside, Goal(1.0)),
        alone(f"{MEGABYTES} MB of output: runner's memory grows by", "MB", [max(grown)]),
    ]
