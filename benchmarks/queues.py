"""What many queues that had work cost: rates, waiting times, memory, and CPU without a job."""

import asyncio
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.filled import connected, fill, job_ids, queue_of
from benchmarks.measure import Goal, Row, alone, compared, cpu_of, memory_of, percentile, sized
from benchmarks.scripted import Fleet, fleet
from benchmarks.stack import Stack, opened
from stint.core.names.ids import queue_token
from stint.jetstream.consuming.consumers import create_consumer
from stint.process.waiting import for_each

SIZES: Final = tuple(int(n) for n in os.environ.get("BENCH_QUEUES", "50,5000,10000").split(","))
"""The fewest are as many as keep one runner busy."""
JOBS: Final = 200
NEW: Final = 300
"""New queues whose first job's start is timed."""
AT_ONCE: Final = 32
"""Consumers that are made at a time."""
LEASE: Final = 30.0
PATIENCE: Final = 300
"""Seconds that a busy machine may take to project what the queues had."""
SECONDS: Final = 10
"""For which the idle stack is watched, three times."""


class _Found(NamedTuple):
    rates: list[float]
    spent: list[float]
    starts: list[float]
    memory: dict[str, float]
    idle: dict[str, list[float]]


async def rows(times: int) -> Sequence[Row]:
    """One runner with ever more queues, each of which had a job."""
    async with fleet() as runners:
        pids = {name: runners.stint.pid(f"{name.lower()}-1") for name in ("NATS", "projector", "API")}
        found: dict[int, _Found] = {}
        for size in SIZES:
            await _fill(runners.stint, max(found, default=0), size)
            async with runners.runners(1, 8) as (runner,):
                pids["runner"] = runner
                await runners.run(["warm"])
                found[size] = await _look(runners, size, pids, times)
    few, *larger = found
    each = [(name, size) for name in pids for size in SIZES]
    return [
        *(row for size in larger for row in _compared(few, found[few], size, found[size])),
        *(sized(f"memory of {name}", "MB", [found[size].memory[name]], size, "queues") for name, size in each),
        *(sized(f"idle CPU of {name}", "% of a core", found[size].idle[name], size, "queues") for name, size in each),
    ]


async def _fill(stint: Stack, have: int, count: int) -> None:
    """What is left of a job in each of further queues: its events and view, and the queue's consumer.

    Not made by real jobs: they would take longer than the server keeps the consumer of a queue without work.
    """
    async with connected(stint.env) as client, opened(stint) as broker:
        await fill(client, job_ids(count)[have:], count, PATIENCE, first=have)
        tokens = (queue_token(queue_of(number, count)) for number in range(have, count))
        await for_each(tokens, lambda token: create_consumer(broker, token, LEASE), at_once=AT_ONCE)


async def _look(runners: Fleet, size: int, pids: dict[str, int], times: int) -> _Found:
    used = [queue_of(number * size // JOBS, size) for number in range(JOBS)]
    rates, spent = [], []
    for _ in range(times):
        begun = cpu_of(pids["runner"], pids["NATS"])
        rates.append(await runners.run(used))
        spent.append((cpu_of(pids["runner"], pids["NATS"]) - begun) / JOBS)
    starts = await runners.start_times(f"new-{size}", NEW)
    idle: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(3):
        before = {name: cpu_of(pid) for name, pid in pids.items()}
        await asyncio.sleep(SECONDS)
        for name, pid in pids.items():
            idle[name].append((cpu_of(pid) - before[name]) / SECONDS / 10)
    return _Found(rates, spent, starts, {name: memory_of(pid) for name, pid in pids.items()}, idle)


def _compared(few: int, before: _Found, many: int, after: _Found) -> list[Row]:
    """What more queues change."""
    beside, name = f"{few:,} queues", f"{many:,} queues that had work"
    each = (after.memory["NATS"] - before.memory["NATS"]) * 1024 / (many - few)
    rate_title, start_title = f"{name}: an engine that costs nothing, one runner", f"{name}: a new job's start"
    late, before_late = [percentile(after.starts, 99)], [percentile(before.starts, 99)]
    return [
        compared(rate_title, "jobs/s", after.rates, beside, before.rates, Goal(0.8, at_least=True)),
        compared(f"{name}: CPU of runner and NATS, a job", "ms", after.spent, beside, before.spent),
        compared(start_title, "ms", after.starts, beside, before.starts),
        compared(f"{start_title}, 99th percentile", "ms", late, beside, before_late, Goal(100, unit="ms")),
        alone(f"{name}: memory of NATS, a queue", "KB", [each], Goal(60, unit="KB")),
    ]
