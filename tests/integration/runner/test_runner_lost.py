"""Runners that die, freeze, lose their lease and come back: what becomes of their jobs, and of the queue."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stint.core import commands
from stint.core.errors import EngineError
from stint.core.events import Ended, Held, Released
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.output.chain import Chunk
from stint.jetstream.consuming.consumers import create_consumer
from stint.ports import Delivery
from stint.process.environment import load
from stint.process.settings import RunnerSettings
from stint_runner.__main__ import serve
from stint_runner.dispatch.adopt import Adoption
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec
from stint_runner.job.prepare import Preparation, Prepared
from stint_runner.job.run import JobRun
from stint_runner.linux import boot_time
from stint_runner.watchdog.deadlines import StoredDeadline
from tests.api.archive import targz
from tests.api.client import in_steps
from tests.support.containers import running
from tests.support.events import AT, TOKEN, event_id, started
from tests.support.runner_bench import Bench
from tests.support.runner_process import LEASE, LONG_LEASE, RunnerProcess, ended_at_last, runner_process
from tests.support.vault_bench import PASSWORD
from tests.support.waiting import until, until_true

pytestmark = pytest.mark.soak

COUNT = "for n in 1 2 3 4 5 6 7 8; do echo $n; echo e$n >&2; sleep 0.5; done"
COUNTED = [*"12345678"]
MASKED = {"mask_secrets": True, "secret_refs": ["P@kv/data/demo.password"]}


@pytest.fixture
async def runner(bench: Bench, tmp_path: Path) -> AsyncIterator[RunnerProcess]:
    async with ended_at_last(runner_process(bench, tmp_path)) as runner:
        yield await runner.start()


async def _chunks(bench: Bench, job: Job) -> list[Chunk]:
    return [chunk async for chunk in bench.output.read(job.token, job.job_id)]


async def _lines(bench: Bench, job: Job, stream: str = "stdout") -> list[str]:
    written = b"".join(chunk.data for chunk in await _chunks(bench, job) if chunk.stream == stream)
    return written.decode().split()


async def _check_output(bench: Bench, job: Job) -> None:
    """Numbered without a gap, chained, and as its end tells."""
    chunks, ended = await _chunks(bench, job), job.fact(Ended)
    assert ended is not None
    assert [chunk.number for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert (ended.chunks, ended.output_digest) == (len(chunks), chunks[-1].digest)
    assert ended.output_bytes == sum(len(chunk.data) for chunk in chunks)
    assert ended.output_complete


async def test_a_runner_that_dies_and_comes_back_ends_its_job_as_if_nothing_had_been(
    bench: Bench, adopter: RunnerProcess, engine: DockerEngine
) -> None:
    job_id = await bench.running(f"{COUNT}; exit 7")
    await adopter.kill()
    await adopter.start()
    job, ended = await bench.end(job_id)
    assert (job.state, ended.reason, ended.return_code) == (State.FAILED, "exit_code", 7)
    assert await _lines(bench, job) == COUNTED
    assert await _lines(bench, job, "stderr") == [f"e{n}" for n in COUNTED]
    await _check_output(bench, job)
    await bench.settled()
    assert len(adopter.said("job adopted")) == 1
    await bench.ends_well(await bench.submit("true"))
    assert not await engine.find({LABEL_JOB: job_id})


async def test_a_runner_that_is_stopped_while_it_adopts_goes_on_to_adopt_what_no_other_process_can(
    bench: Bench, adopter: RunnerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that is adopted keeps the runner's name, and the other's lease would run out."""
    jobs = [await bench.running(COUNT, queue=name) for name in ("first", "second")]
    await adopter.kill()
    adopted, stopped = asyncio.Event(), asyncio.Event()
    decide, run = Adoption._decide, Adoption.run  # noqa: SLF001 - made slow for one job

    async def slow_for_the_second(self: Adoption, job_id: str, found: StoredDeadline) -> None:
        if job_id == jobs[1]:
            await stopped.wait()
        await decide(self, job_id, found)
        adopted.set()

    async def told(self: Adoption, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run(self, stopping))
            await stopping.wait()
            stopped.set()

    monkeypatch.setattr(Adoption, "_decide", slow_for_the_second)
    monkeypatch.setattr(Adoption, "run", told)
    serving = asyncio.create_task(serve(load(RunnerSettings, adopter.environment), lambda *_: DockerEngine()))
    async with asyncio.timeout(60):
        await adopted.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    for job_id in jobs:
        job = await bench.loaded(job_id)
        assert job.state is State.SUCCESS
        await _check_output(bench, job)


async def test_an_unwatched_job_ends_as_it_did_also_beside_a_container_with_its_labels(
    bench: Bench, adopter: RunnerProcess, engine: DockerEngine, busybox: str
) -> None:
    """Somebody has looked into the job by means of a commit of its container."""
    job_id = await bench.running(in_steps("echo one", "echo two; exit 3"))
    await adopter.kill()
    await bench.go_on(job_id)
    (container,) = await engine.find({LABEL_JOB: job_id})
    await engine.wait(container.container_id)
    spec = ContainerSpec(image=busybox, command=("sh", "-c", "exit 5"), labels=container.labels)
    await engine.start(await engine.create(spec))  # the engine lists the newest first
    await adopter.start()
    job, ended = await bench.end(job_id)
    assert (job.state, ended.return_code, await _lines(bench, job)) == (State.FAILED, 3, ["one", "two"])
    await _check_output(bench, job)
    await until(lambda: engine.find({LABEL_JOB: job_id}), lambda found: not found)


async def _killed_once_adopted(
    bench: Bench, adopter: RunnerProcess, script: str, payload: dict[str, Any]
) -> tuple[Job, Ended]:
    """A job that was adopted before it was killed, and its end."""
    job_id = await bench.running(script, payload=payload)
    await adopter.kill()
    await adopter.start()
    await bench.append_kill(job_id)
    return await bench.end(job_id)


async def test_a_kill_reaches_an_adopted_job_and_secrets_stay_masked(bench: Bench, adopter: RunnerProcess) -> None:
    script = "cat /secrets.yml; trap 'cat /secrets.yml; exit 9' TERM; while true; do sleep 0.1; done"
    job, ended = await _killed_once_adopted(bench, adopter, script, MASKED)
    assert (job.state, ended.reason, ended.return_code) == (State.FAILED, "killed", 9)
    assert PASSWORD not in await bench.text(job)
    assert ended.output_masked == 2
    await _check_output(bench, job)


async def test_content_is_not_taken_for_the_secrets_of_an_adopted_job(bench: Bench, adopter: RunnerProcess) -> None:
    payload = MASKED | {"secret_file_type": "json", "content": targz({"secrets.yml": "P: planted\n"})}
    script = "cat /secrets.json; trap 'cat /secrets.json; exit 9' TERM; while true; do sleep 0.1; done"
    job, ended = await _killed_once_adopted(bench, adopter, script, payload)
    assert await bench.text(job) == '{"P": "***"}' * 2
    assert (ended.return_code, ended.output_masked) == (9, 2)
    await _check_output(bench, job)


async def test_no_output_is_shown_of_an_adopted_job_with_changed_secrets(bench: Bench, adopter: RunnerProcess) -> None:
    script = (
        "P=$(cat /secrets.yml); chmod 600 /secrets.yml; printf 'a: &x [*x]' > /secrets.yml; echo up;"
        "trap 'echo \"$P\"; exit 9' TERM; while true; do sleep 0.1; done"
    )
    job, ended = await _killed_once_adopted(bench, adopter, script, MASKED)
    assert (ended.reason, ended.return_code, ended.output_complete) == ("killed", 9, False)
    assert await bench.text(job) == "up\n"


async def test_an_unreadable_secrets_file_hides_an_adopted_jobs_output(bench: Bench, adopter: RunnerProcess) -> None:
    class Busy(DockerEngine):
        async def read_file(self, container_id: str, path: str) -> bytes | None:
            raise EngineError(f"{container_id}, {path}: too many open files")

    job_id = await bench.running(
        "trap 'cat /secrets.yml; exit 9' TERM; echo up; while true; do sleep 0.1; done", payload=MASKED
    )
    await adopter.kill()
    async with bench.runner(adopter.name, lease=LONG_LEASE, engine=Busy()):
        await bench.append_kill(job_id)
        job, ended = await bench.end(job_id)
    assert (ended.reason, ended.return_code, ended.output_complete) == ("killed", 9, False)
    assert PASSWORD not in await bench.text(job)


async def test_a_claimed_job_without_container_ends_and_never_runs(bench: Bench, adopter: RunnerProcess) -> None:
    job_id = await bench.submit("true", payload={"container_image": "127.0.0.1:1/not/there"})
    await bench.until(job_id, "started")
    await adopter.kill()
    begun = asyncio.get_running_loop().time()
    await adopter.start()
    job, ended = await bench.end(job_id)
    assert (job.state, ended.reason) == (State.FAILED, "internal")
    assert asyncio.get_running_loop().time() - begun < float(adopter.settings["STINT_LEASE"])


async def test_a_frozen_runner_is_killed_with_its_container_before_the_queue_goes_on(
    bench: Bench, runner: RunnerProcess, engine: DockerEngine
) -> None:
    job_id = await bench.running("echo up; sleep 600")
    runner.pause()
    async with bench.runner("other", lease=LEASE, takeover=8.0):
        following = await bench.submit("true")
        await bench.until(following, "started")
        assert not await engine.find({LABEL_JOB: job_id})
        job, ended = await bench.end(job_id)
        assert (job.state, ended.reason, ended.by) == (State.UNKNOWN, "lost", "other")
        await bench.ends_well(following)
    await until_true(lambda: not runner.running)
    # The watchdog has until then only killed the container's processes if the engine was slow to remove it.
    await until_true(lambda: not list(runner.state.glob("*.json")))


async def test_a_runner_back_after_its_lease_adopts_no_job(
    bench: Bench, runner: RunnerProcess, engine: DockerEngine
) -> None:
    job_id = await bench.running("echo up; sleep 600")
    await runner.kill()
    # The dead runner's watchdog removes it.
    await until(lambda: engine.find({LABEL_JOB: job_id}), lambda found: not found, seconds=60)
    await runner.start()
    job, ended = await bench.end(job_id)
    assert (job.state, ended.reason) == (State.UNKNOWN, "lost")
    assert runner.said("job adopted") == []


async def test_a_watchdog_that_dies_is_started_again_and_ends_with_its_runner(runner: RunnerProcess) -> None:
    (first,) = runner.watchdogs
    os.kill(first, signal.SIGKILL)
    await until_true(lambda: runner.watchdogs not in ([], [first]))
    await runner.stop()
    assert runner.watchdogs == []
    await runner.start()
    await runner.kill()
    await until_true(lambda: not runner.watchdogs)


async def test_a_held_queue_waits_for_a_release(bench: Bench, runner: RunnerProcess, engine: DockerEngine) -> None:
    job_id = await bench.running("echo up; sleep 600", on_lost="hold")
    following = await bench.submit("true")
    await runner.kill()
    async with bench.runner("other", lease=LEASE, takeover=8.0):
        job = await bench.until(job_id, Held.kind)
        assert job.held
        assert await running({LABEL_JOB: job_id}), "who holds is not fenced"
        lost = Ended(event_id=event_id(), at=AT, by="operator", status="unknown", reason="lost")
        released = commands.release(job, Released(event_id=event_id(), at=AT), lost)
        await bench.log.append(job.token, job_id, *released, after=job.sequence)
        await bench.ends_well(following)
        assert [found.kind for found in (await bench.loaded(job_id)).facts.values()][-2:] == ["released", "ended"]
        await bench.leftovers("other").remove()
        assert not await engine.find({LABEL_JOB: job_id})


async def test_a_held_queue_goes_on_when_its_runner_is_back(bench: Bench, runner: RunnerProcess) -> None:
    job_id = await bench.running(f"{COUNT}; sleep 12; echo 9", on_lost="hold")
    following = await bench.submit("true")
    await runner.kill()
    async with bench.runner("other", lease=LEASE, takeover=8.0):
        await bench.until(job_id, Held.kind)
        await runner.start()
        job, ended = await bench.end(job_id)
        assert (job.state, ended.by, await _lines(bench, job)) == (State.SUCCESS, "runner-1", [*COUNTED, "9"])
        await _check_output(bench, job)
        await bench.ends_well(following)


async def test_a_runner_that_was_frozen_before_a_start_starts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_start, frozen, told = JobRun._before_start, list[Delivery](), list[str]()  # noqa: SLF001

    def waking(late_run: JobRun, prepared: Prepared) -> None:
        frozen.append(late_run.leased.lease.delivery)
        late_run.leased.lease.confirmed -= LEASE
        before_start(late_run, prepared)

    async def start(_engine: DockerEngine, container_id: str) -> None:
        told.append(container_id)

    monkeypatch.setattr(JobRun, "_before_start", waking)
    monkeypatch.setattr(DockerEngine, "start", start)
    async with bench.runner(lease=LEASE, takeover=8.0):
        await bench.submit("true")
        await until_true(lambda: frozen)
        await until_true(lambda: frozen[0] not in running_deliveries(bench))
    assert told == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_job_that_another_has_claimed_is_left_to_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """It has the job from a newer consumer, or since this runner's lease was lost right before its claim, and lives.

    That this runner's delivery was not the first says nothing.
    """
    claim, claimed = JobRun._claim, list[Delivery]()  # noqa: SLF001

    async def claiming(late_run: JobRun, job: Job, preparation: Preparation) -> None:
        lease = late_run.leased.lease
        if late:
            lease.confirmed -= 1000
            await until_true(lambda: lease.lost)
        await bench.log.append(TOKEN, job.job_id, started("another"))
        claimed.append(lease.delivery)
        await claim(late_run, job, preparation)

    job_id = await bench.submit("true", on_lost="hold")
    await bench.pulled(TOKEN, LEASE)
    monkeypatch.setattr(JobRun, "_claim", claiming)
    async with bench.runner(lease=LEASE, takeover=8.0):
        await until_true(lambda: claimed)
        await until_true(lambda: claimed[0] not in running_deliveries(bench))
        job = await bench.loaded(job_id)
        assert (job.state, job.held) == (State.RUNNING, False)
    assert claimed[0].after_expiry


async def test_a_runner_that_stood_still_since_its_pull_does_not_end_the_job_of_who_has_started_it_since(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its delivery was not the first, as that of a job whose runner was lost."""
    load, waking = JobRun._load, list[Delivery]()  # noqa: SLF001

    async def standing_still(late_run: JobRun, *, at_least: int = 0) -> Job | None:
        await bench.log.append(TOKEN, job_id, started("another"))
        job = await load(late_run, at_least=at_least)
        late_run.leased.lease.confirmed -= LEASE
        waking.append(late_run.leased.lease.delivery)
        return job

    job_id = await bench.submit("true")
    await bench.pulled(TOKEN, LEASE)
    monkeypatch.setattr(JobRun, "_load", standing_still)
    async with bench.runner(lease=LEASE, takeover=8.0):
        await until_true(lambda: waking)
        await until_true(lambda: waking[0] not in running_deliveries(bench))
        assert (await bench.loaded(job_id)).state is State.RUNNING
    assert waking[0].after_expiry


async def test_a_lost_job_is_taken_over_by_a_runner_whose_times_do_not_fit_its_queue(bench: Bench) -> None:
    """It may be the only one that is left. It does not run the queue's other jobs."""
    lost, following = await bench.submit("true"), await bench.submit("true")
    await bench.log.append(TOKEN, lost, started("runner-that-is-gone"))
    await create_consumer(bench.broker, TOKEN, LEASE)
    async with bench.runner(lease=3.0, takeover=7.0):
        job, ended = await bench.end(lost)
        assert (job.state, ended.reason) == (State.UNKNOWN, "lost")
        async with bench.runner("fit", lease=LEASE, takeover=8.0):
            job, _ = await bench.end(following)
    assert (job.state, job.runner) == (State.SUCCESS, "fit")


def running_deliveries(bench: Bench) -> Sequence[Delivery]:
    """Of the jobs that a runner processes."""
    return [leased.lease.delivery for leased in bench.dispatchers["runner-1"].jobs.values()]


async def test_a_runner_goes_on_with_its_own_job_when_it_is_delivered_to_it_again(bench: Bench) -> None:
    async with bench.runner(lease=LEASE):
        job_id = await bench.running(COUNT)
        (leased,) = bench.dispatchers["runner-1"].jobs.values()
        first = leased.lease.delivery
        await first.give_back()
        again = await bench.pulled(TOKEN, LEASE)
        await bench.dispatchers["runner-1"].process(again, pulled_at=boot_time())
        job, _ = await bench.end(job_id)
        await bench.settled()
    assert (job.state, await _lines(bench, job)) == (State.SUCCESS, COUNTED)
    assert leased.lease.delivery is again
    await _check_output(bench, job)


async def test_a_second_runner_of_the_same_name_waits(bench: Bench, runner: RunnerProcess, tmp_path: Path) -> None:
    second = runner_process(bench, tmp_path / "again", STINT_STATE_DIR=str(runner.state.parent))
    starting = asyncio.create_task(second.start())
    try:
        await until_true(lambda: second.running and "waiting for its end" in second.log)
        await runner.stop()
        await starting
    finally:
        await second.stop()
