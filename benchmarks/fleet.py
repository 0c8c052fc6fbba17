"""Rates, CPU and waiting times of runners whose engine costs next to nothing."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.measure import (
    Goal,
    Row,
    alone,
    children_of,
    compared,
    cpu_of,
    machine_cpu,
    memory_of,
    percentile,
    sized,
)
from benchmarks.scripted import Fleet, fleet
from stint.process.waiting import for_each
from stint_runner.engine.port import ContainerSpec, Engine

JOBS: Final = 200
QUEUES: Final = 50
PARTS: Final = {"NATS": "nats-1", "projector": "projector-1", "API": "api-1", "Vault": "openbao-1"}
"""Processes of the stack that each job needs."""
RUNNERS: Final = (1, 2, 4, 8)
CORES: Final = os.cpu_count() or 1
BUSY: Final = tuple(int(n) for n in os.environ.get("BENCH_BUSY", "100,300").split(","))
FREE: Final = (4, 1)
NEW: Final = 600
"""New queues whose first job's start is timed: enough for a 99th percentile."""
IDLE: Final = (1, 16)
"""Runners of a fleet that has almost nothing to do."""
FEW: Final = 100
"""Jobs, one after another, that such a fleet is given."""


async def rows(times: int) -> Sequence[Row]:
    """Rates of one runner and of several, CPU of idle fleets, and waiting times beside busy queues."""
    async with fleet() as runners:
        return [
            *await _rates(runners, times),
            *await _several(runners, max(2, times // 2)),
            *await _idle(runners, max(2, times // 2)),
            *await _starts(runners),
        ]


def spread(name: str) -> list[str]:
    """The queue of each job of a rate."""
    return [f"{name}-{number % QUEUES}" for number in range(JOBS)]


async def _rates(fleet: Fleet, times: int) -> list[Row]:
    stint, ours, theirs, cpu, machine = fleet.stint, [], [], [], []
    async with fleet.runners(1, 8) as (runner,):
        await fleet.run(spread("rate"))
        parts = {"runner": runner} | {name: stint.pid(part) for name, part in PARTS.items()} | {"client": os.getpid()}
        for _ in range(times):
            before, all_before = {name: cpu_of(pid) for name, pid in parts.items()}, machine_cpu()
            ours.append(await fleet.run(spread("rate")))
            machine.append((machine_cpu() - all_before) / JOBS)
            cpu.append({name: (cpu_of(pid) - before[name]) / JOBS for name, pid in parts.items()})
            theirs.append(await _alone(fleet.engine, JOBS, 8))
    goal, allowed = Goal(150, unit="jobs/s", at_least=True), [CORES * 1000 / used for used in machine]
    goals = {"runner": [Goal(4, unit="ms")], "NATS": [Goal(2, unit="ms")], "projector": [Goal(1, unit="ms")]}
    cores = f"{CORES} cores, by the machine's CPU a job"
    return [
        compared("an engine that costs nothing, one runner", "jobs/s", ours, "the engine alone", theirs, goal),
        *(
            alone(f"CPU of {name}, a job without its engine", "ms", [used[name] for used in cpu], *goals.get(name, ()))
            for name in parts
        ),
        compared("the same rate, beside what the cores allow", "jobs/s", ours, cores, allowed),
    ]


async def _alone(engine: Engine, count: int, width: int) -> float:
    async def one(_number: int) -> None:
        container = await engine.create(ContainerSpec(image="any", command=("true",), labels={}))
        await engine.start(container)
        await engine.wait(container)
        await engine.remove(container)

    start = time.perf_counter()
    await for_each(range(count), one, at_once=width)
    return count / (time.perf_counter() - start)


async def _several(fleet: Fleet, times: int) -> list[Row]:
    """Rates of several runners, beside so many times one runner's, as far as there are cores for that.

    What one runner's jobs leave of the machine's cores, of which the servers and this client take their part too, says
    how much faster any number of runners can be.
    """
    rates: dict[int, list[float]] = {}
    linear: dict[int, list[float]] = {}
    for _ in range(times):
        room = 1.0
        for count in RUNNERS:
            async with fleet.runners(count, 8):
                await fleet.run([f"warm-{number}" for number in range(count)])
                before, start = machine_cpu(), time.perf_counter()
                rates.setdefault(count, []).append(await fleet.run(spread("several")))
                busy = (machine_cpu() - before) / (time.perf_counter() - start) / 1000
            if count == 1:
                room = max(1.0, CORES / busy)
            linear.setdefault(count, []).append(rates[1][-1] * min(count, room))
    name, beside = "runner processes on an engine that costs nothing", f"times one, as far as {CORES} cores allow"
    return [
        compared(f"{n} {name}", "jobs/s", rates[n], f"{n} {beside}", linear[n], Goal(0.8, at_least=True))
        for n in RUNNERS[1:]
    ]


async def _idle(fleet: Fleet, times: int) -> list[Row]:
    """CPU of runners and NATS for a job, and what they use, and hold, without one."""
    found = {count: await _few_jobs(fleet, count, times) for count in IDLE}
    few, many = IDLE
    name, jobs = f"CPU of runners and NATS, a job, {many} idle runners", {n: [r[0] for r in found[n]] for n in IDLE}
    return [
        compared(name, "ms", jobs[many], "one runner", jobs[few], Goal(1.2)),
        *(
            sized("idle CPU of runners and NATS", "% of a core", [r[1] for r in found[n]], n, "idle runners")
            for n in IDLE
        ),
        *(sized("memory of runners and watchdogs", "MB", [r[2] for r in found[n]], n, "idle runners") for n in IDLE),
    ]


async def _few_jobs(fleet: Fleet, count: int, times: int) -> list[tuple[float, float, float]]:
    """Milliseconds a job more than without jobs; per cent of a core without; MB."""
    stint, found = fleet.stint, []
    async with fleet.runners(count, 2) as pids:
        await fleet.run([f"warm-{number}" for number in range(count)])
        watched = [*pids, stint.pid("nats-1")]
        for turn in range(times):
            tickets = await stint.tickets(FEW)
            before, start = cpu_of(*watched), time.perf_counter()
            for number, ticket in enumerate(tickets):
                await stint.end(await stint.submit(ticket, queue=f"idle-{count}-{turn}-{number}"))
            busy, seconds = cpu_of(*watched) - before, time.perf_counter() - start
            before = cpu_of(*watched)
            await asyncio.sleep(seconds)  # what the fleet uses in as long without a job
            idle = cpu_of(*watched) - before
            memory = sum(memory_of(pid) for runner in pids for pid in (runner, *children_of(runner)))
            found.append(((busy - idle) / FEW, idle / seconds / 10, memory))
    return found


async def _starts(fleet: Fleet) -> list[Row]:
    """How soon a new queue's job starts while other queues are busy and have more to do."""
    async with fleet.runners(1, max(FREE)):
        undisturbed = await fleet.start_times("alone", NEW)
    found: list[Row] = []
    for busy in BUSY:
        async with fleet.runners(4, (busy + max(FREE)) // 4):
            found += await _beside(fleet, busy, undisturbed)
    return found


async def _beside(fleet: Fleet, busy: int, undisturbed: Sequence[float]) -> list[Row]:
    stint, found = fleet.stint, list[Row]()
    running: list[str] = []
    for free in FREE:
        queues = [f"busy-{busy}-{number}" for number in range(len(running), busy + max(FREE) - free)]
        fresh = [
            await stint.submit(ticket, queue=queue, run=("sleep", "3600"))
            for queue, ticket in zip(queues * 2, await stint.tickets(2 * len(queues)), strict=True)
        ]
        await asyncio.gather(*(fleet.started(job_id) for job_id in fresh[: len(queues)]))
        running += fresh
        starts = await fleet.start_times(f"beside-{busy}-{free}", NEW)
        name = f"a new queue's job starts, {busy} other queues busy, {free} slots free"
        found += [
            compared(name, "ms", starts, "no other queue", undisturbed),
            alone(f"{name}, 99th percentile", "ms", [percentile(starts, 99)], Goal(30, unit="ms")),
        ]
    for job_id in reversed(running):
        await stint.call("POST", f"/v1/api/job/kill/{job_id}")
    return found
