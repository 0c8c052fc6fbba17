"""What a queue does not wait for, what one job does not do to another of its runner, and paused queues."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stint.core.events import AnyEvent, Started
from stint.core.job import Job, State, fold
from stint.core.names.headers import LABEL_JOB
from stint.core.names.ids import queue_token
from stint.core.names.subjects import hint_subject
from stint.core.pause import Pause
from stint.jetstream import JetStreamWorkQueues
from stint.ports import Outcome, Turn
from stint_runner.dispatch import finder
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.docker import DockerEngine
from stint_runner.job import run
from stint_runner.job.examine import OvertakenError, examine
from stint_runner.job.run import JobRun
from stint_runner.runner import Runner
from tests.api.client import in_steps
from tests.support.containers import running
from tests.support.events import TOKEN, ended
from tests.support.runner_bench import Bench
from tests.support.runner_process import RunnerProcess
from tests.support.waiting import until, until_true


class SlowRemoval(DockerEngine):
    """Removes no container before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()
        self.asked_again = asyncio.Semaphore(0)
        self._go = asyncio.Event()

    async def remove(self, container_id: str) -> None:
        self.asked.add(container_id)
        self.asked_again.release()
        await self._go.wait()
        await super().remove(container_id)

    @contextmanager
    def told_at_last(self) -> Iterator[None]:
        """It is told at the end of the block, however that comes."""
        try:
            yield
        finally:
            self._go.set()


@pytest.fixture
def slow() -> SlowRemoval:
    return SlowRemoval()


async def test_a_queue_does_not_wait_for_the_clean_up_of_an_ended_job(bench: Bench, slow: SlowRemoval) -> None:
    async with bench.runner(engine=slow):
        with slow.told_at_last():
            first, second = await bench.submit("true"), await bench.submit("true")
            await bench.ends_well(first, second)
            assert len(await slow.find({LABEL_JOB: first})) == 1, "it ended, and waits for its removal"
            assert not await running({LABEL_JOB: first})


async def test_a_queue_does_not_wait_for_a_tokens_revocation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    go, hanging = asyncio.Event(), asyncio.Event()
    async with bench.runner():
        revoke = bench.vault.revoke_self

        async def hang(token: str) -> None:
            hanging.set()
            await go.wait()
            await revoke(token)

        monkeypatch.setattr(bench.vault, "revoke_self", hang)
        try:
            first, second = await bench.submit("true"), await bench.submit("true")
            await bench.ends_well(first)
            await hanging.wait()
            await bench.ends_well(second)
        finally:
            go.set()


async def test_an_engine_that_removes_nothing_gets_no_more_jobs_than_slots(bench: Bench, slow: SlowRemoval) -> None:
    jobs = [await bench.submit("true", queue=f"queue {number}") for number in range(6)]
    async with bench.runner(engine=slow, capacity=2):
        with slow.told_at_last():
            for _ in range(2):
                await slow.asked_again.acquire()
            dispatcher = bench.dispatchers["runner-1"]
            waiting = asyncio.create_task(dispatcher.clean_ups_below(2))
            await asyncio.wait({waiting}, timeout=1)
            assert not waiting.done()
            assert len(dispatcher.jobs) <= 2
        await waiting
        await bench.ends_well(*jobs)


@pytest.mark.soak
async def test_one_slow_removal_fences_no_adopted_job(bench: Bench, slow: SlowRemoval, adopter: RunnerProcess) -> None:
    over = await bench.running("echo up; sleep 600", queue="over")
    (container,) = await slow.find({LABEL_JOB: over})
    healthy = await asyncio.gather(
        *(bench.running("echo up; sleep 9; echo done", queue=f"healthy {number}") for number in range(3))
    )
    await adopter.kill()
    await bench.log.append(queue_token("over"), over, ended("unknown"))
    async with bench.runner(engine=slow):
        with slow.told_at_last():
            await slow.asked_again.acquire()
            for job_id in healthy:
                job, end = await bench.end(job_id)
                assert (job.state, end.by, await bench.text(job)) == (State.SUCCESS, "runner-1", "up\ndone\n")
            assert container.container_id in slow.asked


async def test_an_adopted_job_that_another_ends_meanwhile_is_stopped_at_once(
    bench: Bench, adopter: RunnerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes between adoption's look at the log and the run that follows."""
    job_id = await bench.running("echo up; sleep 600")
    await adopter.kill()
    load, looked = bench.log.load, asyncio.Event()

    async def overtaken(wanted: str, **options: int) -> Job | None:
        job = await load(wanted, **options)
        if not looked.is_set():
            looked.set()
            await bench.log.append(TOKEN, job_id, ended("unknown"))
        return job

    monkeypatch.setattr(bench.log, "load", overtaken)
    engine = DockerEngine()
    async with bench.runner(engine=engine):  # within less than T, after which the queue would continue
        await until(lambda: engine.find({LABEL_JOB: job_id}), lambda found: not found, seconds=10)


async def test_a_claim_that_is_cut_off_leaves_and_cleans_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job was never claimed here, and may be another's by the time a clean-up would come."""
    append, begun, cleaned = bench.log.append, asyncio.Event(), asyncio.Event()

    async def hanging(token: str, job_id: str, *events: AnyEvent, **condition: Any) -> Outcome:
        if events[0].kind == Started.kind and not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return await append(token, job_id, *events, **condition)

    async def clean_up(_run: JobRun) -> None:
        cleaned.set()

    monkeypatch.setattr(bench.log, "append", hanging)
    async with bench.runner():
        job_id = await bench.submit("true")
        await begun.wait()
        with monkeypatch.context() as patched:
            patched.setattr(JobRun, "clean_up", clean_up)
            (leased,) = bench.dispatchers["runner-1"].jobs.values()
            leased.forfeited.set()
            await leased.processed.wait()
        assert list(bench.runners["runner-1"].deadlines.all()) == []
        assert not cleaned.is_set()
        await leased.lease.delivery.give_back()
        await bench.ends_well(job_id)


@pytest.mark.soak
async def test_a_job_that_a_replica_shows_as_queued_keeps_its_container(bench: Bench) -> None:
    """It is another runner's on the same engine: the replica lacks what that one has written."""
    async with bench.runner():
        job_id = await bench.running("echo up; sleep 600")
        job = await bench.loaded(job_id)
        lagging = fold([job.facts["submitted"]])
        assert lagging
        assert lagging.state is State.QUEUED
        runner = bench.runners["runner-1"]
        with runner.memory.share() as share, pytest.raises(OvertakenError):
            await examine(runner, lagging, share)
        assert await running({LABEL_JOB: job_id})
        await bench.append_kill(job_id)
        await bench.end(job_id)


UNTIL_STOPPED = "trap 'exit 1' TERM; while :; do sleep 0.1; done"
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


async def test_a_resume_while_the_only_runner_is_full_is_found_when_it_has_a_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves hints to others then, and there are none."""
    monkeypatch.setattr(finder, "RECONCILE", 0.5)
    await bench.pauses.put(TOKEN, PAUSE)
    job_id = await bench.submit()
    async with bench.runner(capacity=1) as worker:
        await given_back(bench)
        lasting = await full(bench, worker, "other")
        await bench.pauses.remove(TOKEN)
        await bench.go_on(lasting)
        async with asyncio.timeout(20):  # less than a lease
            await bench.ends_well(lasting, job_id)


async def test_a_resume_while_all_runners_are_full_is_found_by_the_first_with_a_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another runner has found the pause, and repeats its hint while nobody hears that either."""
    monkeypatch.setattr(finder, "RECONCILE", 0.5)
    async with bench.runner(capacity=1) as first:
        short = await full(bench, first, "other")
        await bench.pauses.put(TOKEN, PAUSE)
        job_id = await bench.submit()
        async with bench.runner("runner-2", capacity=1) as second:
            await given_back(bench, "runner-2")
            lasting = await full(bench, second, "third")
            heard = await bench.broker.client.subscribe(hint_subject(TOKEN))
            await bench.pauses.remove(TOKEN)
            for _ in ("of the resume", "repeated"):  # no runner hears these
                await heard.next_msg(20)
            await bench.go_on(short)
            async with asyncio.timeout(20):  # less than a lease
                await bench.ends_well(short, job_id)
            await bench.go_on(lasting)
            await bench.ends_well(lasting)


async def test_queues_that_one_runner_found_paused_are_shared_after_their_resumes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though that one has a slot for one of them."""
    monkeypatch.setattr(finder, "RECONCILE", 0.5)
    tokens = [queue_token(f"paused-{number}") for number in range(2)]
    async with bench.runner(capacity=1) as first:
        short = await full(bench, first, "other")
        for token in tokens:
            await bench.pauses.put(token, PAUSE)
        async with bench.runner("runner-2", capacity=1) as second:
            jobs = [await bench.submit(UNTIL_STOPPED, queue=f"paused-{number}") for number in range(2)]
            found = bench.dispatchers["runner-2"]._paused  # noqa: SLF001 - nothing else tells
            await until_true(lambda: len(found) == len(tokens))
            lasting = await full(bench, second, "third")
            for token in tokens:
                await bench.pauses.remove(token)
            await bench.go_on(lasting)
            await bench.ends_well(lasting)
            await until_true(lambda: not found)
            await bench.go_on(short)
            async with asyncio.timeout(20):  # less than a lease
                for job_id in jobs:
                    await bench.until(job_id, "started")
            for job_id in jobs:
                await bench.append_kill(job_id)
                await bench.end(job_id)


async def full(bench: Bench, worker: Worker, queue: str) -> str:
    """A job of this queue that has the runner's only slot, once that no longer listens to hints."""
    job_id = await bench.running(in_steps("echo up", "exit 0"), queue=queue)
    await until_true(lambda: not worker._finder._listens.is_set())  # noqa: SLF001 - nothing else tells
    return job_id


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
    await given_back(bench)


async def given_back(bench: Bench, runner: str = "runner-1") -> None:
    queues = JetStreamWorkQueues(bench.broker, lease=30)
    dispatcher = bench.dispatchers[runner]
    await until(lambda: queues.look(TOKEN), lambda look: look.turn is Turn.HELD and not dispatcher.jobs)


async def test_a_job_that_a_publisher_killed_ends_in_a_paused_queue(bench: Bench) -> None:
    job_id = await bench.submit()
    await bench.append_kill(job_id)
    await bench.pauses.put(TOKEN, PAUSE)
    async with bench.runner():
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "killed")
