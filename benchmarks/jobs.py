"""Jobs from the POST to the end that their client sees, beside the same containers through aiodocker alone."""

import asyncio
import time
from collections.abc import Sequence

from benchmarks.bare import Bare, bare
from benchmarks.measure import Goal, Measured, Row, alternately, cpu_of, timed
from benchmarks.stack import Stack, stack

QUEUES = 8
JOBS = 24
SERIAL = 10


async def rows(times: int) -> Sequence[Row]:
    """One job, one queue back to back, and many queues at once."""
    async with stack() as stint, bare() as engine:
        return [
            await _one(stint, engine, times * 4),
            await _serial(stint, engine, times),
            await _wide(stint, engine, times),
            await _runner_cpu(stint, engine),
        ]


async def _one(stint: Stack, engine: Bare, times: int) -> Row:
    tickets = iter(await stint.tickets(times + 1))

    async def one() -> None:
        await stint.end(await stint.submit(next(tickets)))

    ours, theirs = await alternately(one, engine.job, times)
    return Row(
        "one job, POST to end at the client",
        Measured("Stint", "ms", ours),
        Measured("bare aiodocker", "ms", theirs),
        [Goal(1.0)],
    )


async def _serial(stint: Stack, engine: Bare, times: int) -> Row:
    tickets = iter(await stint.tickets((times + 1) * SERIAL))

    async def serial() -> None:
        ids = [await stint.submit(next(tickets), queue="serial") for _ in range(SERIAL)]
        await stint.end(ids[-1])

    async def alone() -> None:
        await engine.jobs(SERIAL, 1)

    ours, theirs = await alternately(serial, alone, times)
    return Row(
        f"one queue, {SERIAL} jobs back to back",
        Measured("Stint, a job", "ms", [value / SERIAL for value in ours]),
        Measured("bare, one after another", "ms", [value / SERIAL for value in theirs]),
        [Goal(1.03)],
    )


async def _wide(stint: Stack, engine: Bare, times: int) -> Row:
    tickets = iter(await stint.tickets((times + 1) * JOBS))

    async def wide() -> None:
        submitted = [stint.submit(next(tickets), queue=f"wide-{number % QUEUES}") for number in range(JOBS)]
        ids = await asyncio.gather(*submitted)
        await asyncio.gather(*(stint.end(job_id) for job_id in ids))

    async def alone() -> None:
        await engine.jobs(JOBS, QUEUES)

    ours, theirs = await alternately(wide, alone, times)
    return Row(
        f"{JOBS} jobs over {QUEUES} queues, one runner",
        Measured("Stint", "jobs/s", [JOBS * 1000 / value for value in ours]),
        Measured("bare, 8 at a time", "jobs/s", [JOBS * 1000 / value for value in theirs]),
        [Goal(0.95, at_least=True)],
    )


async def _runner_cpu(stint: Stack, engine: Bare) -> Row:
    tickets = await stint.tickets(JOBS)
    pid = stint.pid("runner-1")
    before = cpu_of(pid)
    await asyncio.gather(*[stint.end(await stint.submit(t, queue=f"cpu-{n % QUEUES}")) for n, t in enumerate(tickets)])
    ours = (cpu_of(pid) - before) / JOBS
    start = time.process_time()
    await timed(lambda: engine.jobs(JOBS, QUEUES))
    theirs = (time.process_time() - start) * 1000 / JOBS
    return Row(
        "runner's CPU, a Docker job",
        Measured("Stint's runner", "ms", [ours]),
        Measured("bare aiodocker", "ms", [theirs]),
        [Goal(10, unit="ms")],
    )
