"""Runners on an engine that costs next to nothing, so that what remains is Stint: rates, waiting times, CPU.

The engine is the one of the chaos tests: its containers are plain processes.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tests.chaos.scripted_engine import SCHEME, scripted_engine

from benchmarks.measure import Goal, Measured, Row, cpu_of
from benchmarks.stack import Stack, stack
from stint.vault.setup import service_settings
from stint_runner.engine.port import ContainerSpec, Engine

JOBS: Final = 200
QUEUES: Final = 50
BUSY: Final = int(os.environ.get("BENCH_BUSY", "300"))
FREE: Final = 4
NEW: Final = 40
"""New queues whose first job's start is timed."""
MANY: Final = 16
IDLE: Final = 100
"""Jobs, one after another, that an idle fleet is given."""


async def rows(times: int) -> Sequence[Row]:
    """Rates of one runner, CPU of fleets, and waiting times beside busy queues."""
    async with stack(runners=0, STINT_AUTHZ="any") as stint, scripted_engine(stint.folder / "engine") as engine:
        settings = await service_settings(
            stint.env["VAULT_ADDR"], stint.env["VAULT_TOKEN"], role=stint.env["STINT_ROLE"]
        )
        fleet = Fleet(stint, dict(settings))
        return [
            *await _rates(fleet, engine, times),
            await _submissions(fleet),
            *await _starts(fleet),
        ]


class Fleet:
    """Starts runners on the stack's scripted engine."""

    def __init__(self, stint: Stack, settings: dict[str, str]) -> None:
        self.stint = stint
        self._settings = settings

    @asynccontextmanager
    async def runners(self, count: int, capacity: int) -> AsyncIterator[list[int]]:
        """That many runners, ready, for the duration of the block; their process ids."""
        async with AsyncExitStack() as started:
            yield [await started.enter_async_context(self._runner(number, capacity)) for number in range(count)]

    @asynccontextmanager
    async def _runner(self, number: int, capacity: int) -> AsyncIterator[int]:
        env = {
            **self._settings,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "NATS_URL": self.stint.env["NATS_URL"],
            "VAULT_ADDR": self.stint.env["VAULT_ADDR"],
            "STINT_RUNNER_ID": f"bench-{number}",
            "STINT_CAPACITY": str(capacity),
            "STINT_STATE_DIR": str(self.stint.folder / f"state-{number}"),
            "STINT_DRAIN": "0",
            "STINT_KILL_GRACE": "1",
            "DOCKER_HOST": f"{SCHEME}{self.stint.folder}/engine",
        }
        log = (self.stint.folder / f"runner-{number}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.scripted_runner", env=env, stdout=log, stderr=log
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            await process.wait()
            log.close()


async def _rates(fleet: Fleet, engine: Engine, times: int) -> list[Row]:
    stint, ours, theirs, cpu = fleet.stint, [], [], []
    async with fleet.runners(1, 8) as (runner,):
        await _run_all(stint, 8, "warm")
        parts = {"runner": runner, "NATS": stint.pid("nats-1"), "projector": stint.pid("projector-1")}
        for _ in range(times):
            before = {name: cpu_of(pid) for name, pid in parts.items()}
            ours.append(await _run_all(stint, JOBS, "rate"))
            cpu.append({name: (cpu_of(pid) - before[name]) / JOBS for name, pid in parts.items()})
            theirs.append(await _alone(engine, JOBS, 8))
    rate = Row(
        "an engine that costs nothing, one runner",
        Measured("Stint", "jobs/s", ours),
        Measured("the engine alone", "jobs/s", theirs),
        [Goal(150, unit="jobs/s", at_least=True)],
    )
    limits = {"runner": 4, "NATS": 2, "projector": 1}
    return [
        rate,
        *(
            Row(
                f"CPU of {name}, a job without its engine",
                Measured("Stint", "ms", [used[name] for used in cpu]),
                None,
                [Goal(limits[name], unit="ms")],
            )
            for name in parts
        ),
    ]


async def _run_all(stint: Stack, count: int, name: str) -> float:
    """Jobs a second, from the first POST to the last end."""
    tickets = await stint.tickets(count)
    start = time.perf_counter()
    ids = await asyncio.gather(
        *(stint.submit(ticket, queue=f"{name}-{number % QUEUES}") for number, ticket in enumerate(tickets))
    )
    await asyncio.gather(*(stint.end(job_id) for job_id in ids))
    return count / (time.perf_counter() - start)


async def _alone(engine: Engine, count: int, width: int) -> float:
    slots = asyncio.Semaphore(width)

    async def one() -> None:
        async with slots:
            container = await engine.create(ContainerSpec(image="any", command=("true",), labels={}))
            await engine.start(container)
            await engine.wait(container)
            await engine.remove(container)

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - start)


async def _submissions(fleet: Fleet) -> Row:
    """CPU of runners and NATS for a job, of a fleet that is otherwise idle."""
    found = {count: await _idle(fleet, count) for count in (1, MANY)}
    return Row(
        f"CPU of runners and NATS, a job, {MANY} idle runners",
        Measured("Stint", "ms", [found[MANY]]),
        Measured("one runner", "ms", [found[1]]),
        [Goal(1.2)],
    )


async def _idle(fleet: Fleet, count: int) -> float:
    stint = fleet.stint
    async with fleet.runners(count, 2) as pids:
        await _run_all(stint, count, "warm")
        tickets = await stint.tickets(IDLE)
        watched = [*pids, stint.pid("nats-1")]
        before = cpu_of(*watched)
        start = time.perf_counter()
        for number, ticket in enumerate(tickets):
            await stint.end(await stint.submit(ticket, queue=f"idle-{count}-{number}"))
        busy, seconds = cpu_of(*watched) - before, time.perf_counter() - start
        before = cpu_of(*watched)
        await asyncio.sleep(seconds)  # what the fleet uses in as long without a job
        return (busy - (cpu_of(*watched) - before)) / IDLE


async def _starts(fleet: Fleet) -> list[Row]:
    """How soon a new queue's job starts while other queues are busy and have more to do."""
    async with fleet.runners(1, FREE):
        alone = await _start_times(fleet.stint, "alone")
    capacity = (BUSY + FREE) // 4
    async with fleet.runners(4, capacity):
        tickets = await fleet.stint.tickets(2 * BUSY)
        running = [
            await fleet.stint.submit(ticket, queue=f"busy-{number % BUSY}", run=("sleep", "3600"))
            for number, ticket in enumerate(tickets)
        ]
        await asyncio.gather(*(_started(fleet.stint, job_id) for job_id in running[:BUSY]))
        beside = await _start_times(fleet.stint, "beside")
        for job_id in reversed(running):
            await fleet.stint.call("POST", f"/v1/api/job/kill/{job_id}")
    name = f"a new queue's job starts, {BUSY} other queues busy, {FREE} slots free"
    p99 = sorted(beside)[int(len(beside) * 0.99)]
    return [
        Row(name, Measured("Stint", "ms", beside), Measured("no other queue", "ms", alone)),
        Row(f"{name}, slowest of 100", Measured("Stint", "ms", [p99]), None, [Goal(30, unit="ms")]),
    ]


async def _start_times(stint: Stack, name: str) -> list[float]:
    found = []
    for number, ticket in enumerate(await stint.tickets(NEW)):
        start = time.perf_counter()
        job_id = await stint.submit(ticket, queue=f"{name}-{number}")
        await _started(stint, job_id)
        found.append((time.perf_counter() - start) * 1000)
        await stint.end(job_id)
    return found


async def _started(stint: Stack, job_id: str) -> None:
    async with stint.http.get(f"{stint.env['STINT_URL']}/v1/api/job/{job_id}/events") as answer:
        async for line in answer.content:
            if b'"started"' in line:
                return
