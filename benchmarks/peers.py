"""Task queues that exist as packages, beside Stint with the same containers: one at a time, and many at once.

None of them seals a payload, keeps a queue serial, fences a lost worker or keeps output; Celery and RQ keep what they
have accepted in the memory of Redis.
"""

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.jobs import JOBS, QUEUES, one_job, wide
from benchmarks.measure import NotMeasuredError, Row
from benchmarks.stack import Stack, stack
from stint.cli.dev.servers import free_ports

ROOT: Final = Path(__file__).parents[1]
BIN: Final = ROOT / ".venv" / "peers" / "bin"
READY: Final = 60
"""Seconds within which a peer's first task must have run."""


PEERS: Final = {
    "Celery + Redis + docker-py": f"celery -A benchmarks.peer_tasks:celery_app worker -c {QUEUES}",
    "RQ + Redis + docker-py": f"rq worker-pool -n {QUEUES}",
    "taskiq-nats + aiodocker": f"taskiq worker -w 1 --max-async-tasks {QUEUES} benchmarks.peer_tasks:taskiq_broker",
}
"""Each with the command of its worker, which runs 8 tasks at a time."""


async def rows(times: int) -> Sequence[Row]:
    """Each peer alternately with Stint."""
    await _ensure()
    found: list[Row] = []
    async with stack() as stint, _redis(stint.folder) as redis:
        env = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        env |= {name: stint.env[name] for name in ("NATS_URL", "STINT_NATS_NKEY_FILE")}
        env |= {"REDIS_URL": redis, "RQ_REDIS_URL": redis, "PYTHONPATH": str(ROOT)}
        for title, worker in PEERS.items():
            async with _running(worker.split(), env, stint.folder) as run:
                found += await _beside(stint, title, run, times)
    return found


async def _beside(stint: Stack, title: str, run: Callable[[int], Awaitable[None]], times: int) -> list[Row]:
    one = await one_job(stint, f"one job, beside {title}", lambda: run(1), title, times * 2)
    many = await wide(stint, f"beside {title}", lambda: run(JOBS), title, max(2, times // 2))
    return [one, many]


async def _ensure() -> None:
    """Install what is missing."""
    process = await asyncio.create_subprocess_exec(ROOT / "scripts" / "ensure-peers", stderr=PIPE)
    _, said = await process.communicate()
    if process.returncode:
        lines = said.decode().strip().splitlines() or ["scripts/ensure-peers failed."]
        raise NotMeasuredError(lines[-1].removeprefix("setup: "))


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[str]:
    """The address of a Redis server with its defaults, for the duration of the block."""
    port = next(free_ports())
    async with _process(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)], {}, folder):
        yield f"redis://127.0.0.1:{port}/0"


@asynccontextmanager
async def _running(
    worker: Sequence[str], env: Mapping[str, str], folder: Path
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """A worker and a client; what is yielded runs that many tasks at once."""
    name, *options = worker
    async with AsyncExitStack() as started:
        await started.enter_async_context(_process([str(BIN / name), *options], env, folder))
        command = [str(BIN / "python"), "-m", "benchmarks.peer_tasks", name]
        client = await started.enter_async_context(_process(command, env, folder, answers=PIPE))

        async def answer() -> None:
            if not await client.stdout.readline():  # type: ignore[union-attr] # it is a pipe
                raise RuntimeError(f"{name} ended: {(folder / 'python.log').read_text()[-2000:]}")

        async def run(count: int) -> None:
            client.stdin.write(b"%d\n" % count)  # type: ignore[union-attr] # it is a pipe
            await answer()

        await asyncio.wait_for(answer(), READY)
        yield run


@asynccontextmanager
async def _process(
    command: Sequence[str], env: Mapping[str, str], folder: Path, answers: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for the duration of the block, whose log is in the folder, named like its program."""
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env={"PATH": os.defpath, **env}, cwd=folder, stdin=PIPE, stdout=answers or log, stderr=log
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()
