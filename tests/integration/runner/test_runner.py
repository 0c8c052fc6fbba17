"""Runners: queues, killed jobs, lost runners, and what the streams have of it. What jobs see stands in `tests/api`."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stint.core.codec import encode
from stint.core.events import Ended, Launched
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import unreadable_submission
from stint.jetstream import JetStreamWorkQueues
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.ports import Delivery, Look
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.inputs import secretfile
from stint_runner.job import fill
from stint_runner.lease.lease import LeaseTimes
from stint_runner.output.pump import OutputPump
from tests.api.archive import targz
from tests.support.containers import running
from tests.support.events import TOKEN, event_id, started
from tests.support.runner_bench import Bench
from tests.support.servers import NatsProcess
from tests.support.vault_bench import PASSWORD
from tests.support.waiting import until

LEASE, TAKEOVER = 3.0, 7.0
"""Seconds: a short lease, and as short a T as its times allow."""


def _time(job: Job, kind: str) -> datetime:
    return datetime.fromisoformat(job.facts[kind].time[:26].rstrip("Z")).replace(tzinfo=UTC)


@pytest.mark.parametrize("expired", [True, False])
async def test_an_expired_wrapping_token_is_no_alert(bench: Bench, expired: bool) -> None:
    """By the clock that the runner is given, which is not its machine's."""
    now = datetime(2100, 2, 28, 23, 59, tzinfo=UTC)
    until = now + timedelta(minutes=-1 if expired else 1)
    async with bench.runner(now=lambda: now):
        _, end = await bench.end(await bench.submit(wrap_secret_id="s.spent", wrap_expires_at=until.isoformat()))
    assert ("TAMPERED" in end.error, "expired at 2100-02-28" in end.error) == (not expired, expired)


async def test_a_job_with_secret_content_and_environment(bench: Bench) -> None:
    async with bench.runner():
        job, end, text = await bench.ended(
            "id -u; cat /secrets.yml /demo.txt; echo $A; echo oops >&2; exit 3",
            secret_refs=["PASSWORD@kv/data/demo.password", "NUMBER@kv/data/demo.number"],
            content=targz({"demo.txt": "hello from content\n"}),
            env_vars=["A=from env"],
        )
    assert (job.state, end.reason, end.return_code, end.error) == (State.FAILED, "exit_code", 3, "")
    for part in ("2001\n", f"PASSWORD: {PASSWORD}\n", "NUMBER: 7\n", "hello from content\n", "from env\n", "oops\n"):
        assert part in text
    assert list(job.facts) == ["submitted", "started", "launched", "ended"]
    launched = job.fact(Launched)
    assert launched
    assert launched.image_id.startswith("sha256:")
    assert launched.secrets == {"kv/data/demo.password": 2, "kv/data/demo.number": 2}
    assert PASSWORD.encode() not in encode(launched)
    assert (end.output_bytes, end.output_complete) == (len(text), True)
    last = await bench.output.last(job.token, job.job_id)
    assert last is not None
    assert (last.number, last.digest) == (end.chunks, end.output_digest)
    assert not await bench.containers(job.job_id)
    await bench.settled()


async def test_the_secrets_of_one_job_do_not_hold_up_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few megabytes of them take longer to be written as YAML than the other jobs' leases last."""
    loop, went_on = asyncio.get_running_loop(), list[bool]()

    def beside(work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, which waits for the event loop to go on meanwhile."""

        def waiting(*values: Any, **options: Any) -> Any:
            turn = threading.Event()
            loop.call_soon_threadsafe(turn.set)
            went_on.append(turn.wait(10))
            return work(*values, **options)

        return waiting

    monkeypatch.setattr(fill, "secrets_member", beside(secretfile.secrets_member))
    monkeypatch.setattr(OutputPump, "mask", beside(OutputPump.mask))
    secrets: dict[str, Any] = {"secret_refs": ["PASSWORD@kv/data/demo.password"], "mask_secrets": True}
    async with bench.runner():
        _, _, text = await bench.ended("grep PASS /secrets.yml", **secrets)
    assert (text, went_on) == ("PASSWORD: ***\n", [True, True])


async def test_capacity_bounds_the_jobs_at_a_time(bench: Bench) -> None:
    ids = [await bench.submit("sleep 0.2", queue=f"own {number}") for number in range(4)]
    async with bench.runner(capacity=2):
        jobs = [(await bench.end(job_id))[0] for job_id in ids]
    moments = sorted([(_time(job, "started"), 1) for job in jobs] + [(_time(job, "ended"), -1) for job in jobs])
    running = peak = 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    assert peak == 2


async def test_junk_subjects_are_recorded_outside_the_view(bench: Bench) -> None:
    for address in ("ev.xyz.MF.submitted", f"ev.{'a' * 24}.mf.submitted", "ev.short._.submitted"):
        await bench.broker.publish(address, b"junk")
    async with bench.runner():
        await bench.ends_well(await bench.submit("true"))
        await bench.settled()
    for sequence in (1, 2, 3):
        place = unreadable_submission(sequence).subject
        answer = await bench.broker.api(f"STREAM.MSG.GET.{EVENTS}", {"last_by_subj": place})
        assert answer["message"]["subject"] == place


async def test_a_runner_that_stops_ends_its_jobs(bench: Bench) -> None:
    async with bench.runner(kill_grace=0.2) as worker:
        job_id = await bench.running("echo up; sleep 600")
        worker.drain()
        worker._dispatcher.kill_all()  # noqa: SLF001 - what the composition root does after the drain's bound
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "killed")
    await bench.settled()


async def test_a_job_that_comes_while_a_runner_stops_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be started only to be killed, if it takes longer than the drain."""
    pull, process, processed = JetStreamWorkQueues.pull, Dispatcher.process, asyncio.Event()

    async def stopping(
        queues: JetStreamWorkQueues, token: str, wait: float, look: Look | None = None
    ) -> JetStreamDelivery | None:
        delivery = await pull(queues, token, wait, look)
        if delivery:
            worker.drain()
        return delivery

    async def noting(dispatcher: Dispatcher, delivery: Delivery, *, pulled_at: float) -> None:
        await process(dispatcher, delivery, pulled_at=pulled_at)
        processed.set()

    job_id = await bench.submit("true")
    monkeypatch.setattr(JetStreamWorkQueues, "pull", stopping)
    monkeypatch.setattr(Dispatcher, "process", noting)
    async with bench.runner() as worker, asyncio.timeout(30):
        await processed.wait()
    assert (await bench.loaded(job_id)).state is State.QUEUED
    monkeypatch.undo()
    async with bench.runner("another"):
        await bench.ends_well(job_id)


# --- lost runners ---------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_the_job_of_a_lost_runner_ends_unknown_and_its_queue_goes_on(bench: Bench) -> None:
    lost, good = await bench.submit("true"), await bench.submit("true")
    await bench.log.append(TOKEN, lost, started("runner-that-is-gone"))
    async with bench.runner(lease=LEASE, takeover=TAKEOVER):
        job, end = await bench.end(lost)
        after, _ = await bench.end(good)
    assert (job.state, end.reason, end.by) == (State.UNKNOWN, "lost", "runner-1")
    assert after.state is State.SUCCESS
    assert (_time(after, "started") - _time(job, "ended")).total_seconds() >= TAKEOVER
    waited = (_time(job, "ended") - _time(job, "started")).total_seconds()
    assert waited >= LEASE, "its runner had a lease's time to renew"


async def test_a_restarted_runner_does_not_run_its_own_job_again(bench: Bench) -> None:
    mine = await bench.submit("echo again")
    await bench.log.append(TOKEN, mine, started("runner-1"))
    async with bench.runner("runner-1", lease=LEASE, takeover=TAKEOVER):
        job, end = await bench.end(mine)
        await bench.settled()
    assert (job.state, end.reason) == (State.FAILED, "internal")
    assert await bench.text(job) == ""


async def test_a_runner_whose_job_was_ended_by_another_stops_it_at_once(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.running("echo up; sleep 600")
        theirs = Ended(event_id=event_id(), at="", by="runner-2", status="unknown", reason="lost")
        assert (await bench.log.append(TOKEN, job_id, theirs)).value == "won"
        await until(lambda: bench.containers(job_id), lambda found: not found, seconds=10)
    assert (await bench.loaded(job_id)).state is State.UNKNOWN
    pending = await bench.runners["runner-1"].queues.pending()
    assert list(pending) == [TOKEN], "its message is the other's to acknowledge"


@pytest.mark.soak
async def test_a_runner_that_cannot_renew_ends_its_container_and_the_queue_goes_on(
    runners: Bench, nats_process: NatsProcess
) -> None:
    async with runners.runner(lease=LEASE, takeover=TAKEOVER):
        job_id = await runners.running("echo up; sleep 600")
        good = await runners.submit("true")
        await nats_process.kill()
        times = LeaseTimes(lease=LEASE, takeover=TAKEOVER)
        await until(  # before a successor runs; its removal may take a busy engine longer
            lambda: running({LABEL_JOB: job_id}),
            lambda found: not found,
            seconds=times.lease - times.margin + times.takeover,
        )
        await nats_process.start()
        await runners.broker.wait_connected()
        job, end = await runners.end(job_id)
        assert (job.state, end.reason) == (State.UNKNOWN, "lost")
        await runners.ends_well(good)


@pytest.mark.soak
async def test_a_short_outage_goes_unnoticed_by_the_job(runners: Bench, nats_process: NatsProcess) -> None:
    async with runners.runner():
        job_id = await runners.running("echo up; sleep 2.5; echo still up")
        await nats_process.restart()
        await runners.broker.wait_connected()
        await runners.ends_well(job_id)
        assert await runners.text(await runners.loaded(job_id)) == "up\nstill up\n"
