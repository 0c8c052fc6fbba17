"""Runners and paused queues: nothing starts, the order is kept, and the end of the pause is heard."""

import asyncio

import pytest

from stint.core.job import State
from stint.core.pause import Pause
from stint.jetstream import JetStreamWorkQueues
from stint.ports import Turn
from stint_runner.job import run
from stint_runner.job.examine import examine
from stint_runner.runner import Runner
from tests.support.events import TOKEN
from tests.support.runner_bench import Bench
from tests.support.waiting import until

PAUSE = Pause(who="anna", at="2026-01-02T03:04:05Z", reason="wait")


async def test_a_resume_while_the_job_is_given_back_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    is_paused, asked = Runner.is_paused, asyncio.Event()

    async def resumed_right_after(self: Runner, token: str) -> bool:
        paused = await is_paused(self, token)
        if paused and not asked.is_set():
            asked.set()
            await bench.pauses.remove(token)
            await bench.broker.client.flush()
        return paused

    monkeypatch.setattr(Runner, "is_paused", resumed_right_after)
    await bench.pauses.put(TOKEN, PAUSE)
    async with bench.runner(capacity=1), asyncio.timeout(20):  # less than a lease
        await bench.ends_well(await bench.submit())
    assert asked.is_set()


async def test_a_runner_that_was_slow_to_claim_finds_the_pause(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    examined = asyncio.Event()

    async def paused_meanwhile(*arguments: object) -> object:
        found = await examine(*arguments)  # type: ignore[arg-type] # as it is called
        if not examined.is_set():
            examined.set()
            job = await bench.loaded(job_id)
            await bench.pauses.put(TOKEN, PAUSE)
            assert await bench.log.bar(TOKEN, job_id, after=job.sequence)
        return found

    monkeypatch.setattr(run, "examine", paused_meanwhile)
    job_id = await bench.submit()
    async with bench.runner():
        await given_back_after(bench, examined)
        assert (await bench.loaded(job_id)).state is State.QUEUED
        await bench.pauses.remove(TOKEN)
        await bench.ends_well(job_id)


async def given_back_after(bench: Bench, event: asyncio.Event) -> None:
    await event.wait()
    queues = JetStreamWorkQueues(bench.broker, lease=30)
    dispatcher = bench.dispatchers["runner-1"]
    await until(lambda: queues.look(TOKEN), lambda look: look.turn is Turn.HELD and not dispatcher.jobs)


async def test_a_job_that_a_publisher_killed_ends_in_a_paused_queue(bench: Bench) -> None:
    job_id = await bench.submit()
    await bench.append_kill(job_id)
    await bench.pauses.put(TOKEN, PAUSE)
    async with bench.runner():
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "killed")
