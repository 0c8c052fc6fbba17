"""Jobs from the POST to the end that their client sees, beside the same containers through aiodocker alone."""

import asyncio
import time
from collections.abc import Sequence

import aiodocker

from benchmarks.bare import Bare
from benchmarks.measure import Goal, Row, Work, alternately, compared, cpu_of
from benchmarks.stack import Stack, stack

QUEUES = 8
JOBS = 24
SERIAL = 10
BARE = "bare aiodocker"


async def rows(times: int) -> Sequence[Row]:
    """One job, one queue back to back, and many queues at once."""
    async with stack(STINT_CAPACITY=str(QUEUES)) as stint, aiodocker.Docker() as docker:
        engine = Bare(docker)
        return [
            await one_job(stint, "one job, POST to end at the client", engine.job, BARE, times * 4, Goal(1.0)),
            await serial(stint, f"one queue, {SERIAL} jobs back to back", engine, times, Goal(1.03)),
            await wide_beside_bare(stint, "one runner", engine, times, Goal(0.95, at_least=True)),
            await _runner_cpu(stint, engine, times),
        ]


async def one_job(stint: Stack, name: str, beside: Work, what: str, times: int, *goals: Goal) -> Row:
    """A job from its POST to its end, alternately with the same work of another kind."""
    tickets = iter(await stint.tickets(times + 1))

    async def one() -> None:
        await stint.end(await stint.submit(next(tickets)))

    ours, theirs = await alternately(one, beside, times)
    return compared(name, "ms", ours, what, theirs, *goals)


async def serial(stint: Stack, name: str, engine: Bare, times: int, *goals: Goal) -> Row:
    """Jobs of one queue, alternately with the same containers one after another."""
    tickets = iter(await stint.tickets((times + 1) * SERIAL))

    async def queue() -> None:
        ids = [await stint.submit(next(tickets), queue="serial") for _ in range(SERIAL)]
        await stint.end(ids[-1])

    async def alone() -> None:
        await engine.jobs(SERIAL, 1)

    ours, theirs = ([value / SERIAL for value in values] for values in await alternately(queue, alone, times))
    return compared(name, "ms", ours, "bare, one after another", theirs, *goals)


async def wide_beside_bare(stint: Stack, how: str, engine: Bare, times: int, *goals: Goal) -> Row:
    """Many jobs over several queues, alternately with the same containers."""
    return await wide(stint, how, lambda: engine.jobs(JOBS, QUEUES), "bare, 8 at a time", times, *goals)


async def wide(stint: Stack, how: str, beside: Work, what: str, times: int, *goals: Goal) -> Row:
    """The same, alternately with the same work of another kind."""
    tickets = iter(await stint.tickets((times + 1) * JOBS))

    async def ours() -> None:
        await _all(stint, "wide", [next(tickets) for _ in range(JOBS)])

    taken, theirs = await alternately(ours, beside, times)
    rates, other_rates = ([JOBS * 1000 / value for value in values] for values in (taken, theirs))
    return compared(f"{JOBS} jobs over {QUEUES} queues, {how}", "jobs/s", rates, what, other_rates, *goals)


async def _all(stint: Stack, queue: str, tickets: Sequence[str]) -> None:
    """A job for each ticket, until all have ended."""
    submitted = [stint.submit(ticket, queue=f"{queue}-{n % QUEUES}") for n, ticket in enumerate(tickets)]
    await asyncio.gather(*(stint.end(job_id) for job_id in await asyncio.gather(*submitted)))


async def _runner_cpu(stint: Stack, engine: Bare, times: int) -> Row:
    pid, ours, theirs = stint.pid("runner-1"), [], []
    for _ in range(times):
        tickets = await stint.tickets(JOBS)
        before = cpu_of(pid)
        await _all(stint, "cpu", tickets)
        ours.append((cpu_of(pid) - before) / JOBS)
        start = time.process_time()
        await engine.jobs(JOBS, QUEUES)
        theirs.append((time.process_time() - start) * 1000 / JOBS)
    return compared("runner's CPU, a Docker job", "ms", ours, BARE, theirs, Goal(10, unit="ms"))
