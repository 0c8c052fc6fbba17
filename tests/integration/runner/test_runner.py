"""Runners: queues, output, a NATS that refuses, and what the streams have of it. What jobs see is in `tests/api`."""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from stint.core.events import Ended
from stint.core.job import State
from stint.core.names.streams import EVENTS, PAUSES_BUCKET, kv_stream
from stint.core.names.subjects import unreadable_submission
from stint.jetstream import JetStreamWorkQueues
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.ports import Delivery, Look
from stint_runner.dispatch import worker
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.inputs import secretfile
from stint_runner.job import fill
from stint_runner.output.pump import OutputPump
from tests.api.client import in_steps
from tests.support import full_nats, memory
from tests.support.brokers import connected
from tests.support.events import TOKEN, event_id, started
from tests.support.full_nats import FILL, SMALL
from tests.support.runner_bench import Bench, make_bench
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until, until_true

LEASE, TAKEOVER = 3.0, 7.0
"""Seconds: a short lease, and as short a T as its times allow."""


@pytest.mark.parametrize("expired", [True, False])
async def test_an_expired_wrapping_token_is_no_alert(bench: Bench, expired: bool) -> None:
    """By the clock that the runner is given, which is not its machine's."""
    now = datetime(2100, 2, 28, 23, 59, tzinfo=UTC)
    until = now + timedelta(minutes=-1 if expired else 1)
    async with bench.runner(now=lambda: now):
        _, end = await bench.end(await bench.submit(wrap_secret_id="s.spent", wrap_expires_at=until.isoformat()))
    assert ("TAMPERED" in end.error, "expired at 2100-02-28" in end.error) == (not expired, expired)


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
            runner.drain()
        return delivery

    async def noting(dispatcher: Dispatcher, delivery: Delivery, *, pulled_at: float) -> None:
        await process(dispatcher, delivery, pulled_at=pulled_at)
        processed.set()

    job_id = await bench.submit("true")
    monkeypatch.setattr(JetStreamWorkQueues, "pull", stopping)
    monkeypatch.setattr(Dispatcher, "process", noting)
    async with bench.runner() as runner, asyncio.timeout(30):
        await processed.wait()
    assert (await bench.loaded(job_id)).state is State.QUEUED
    monkeypatch.undo()
    async with bench.runner("another"):
        await bench.ends_well(job_id)


@pytest.mark.soak
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


MIB = 2**20
REFS = ["PASSWORD@kv/data/demo.password", "NUMBER@kv/data/demo.number"]


async def test_secrets_of_several_lines_are_masked_on_a_terminal(bench: Bench) -> None:
    secret = {"data": {"key": "-----BEGIN-----\nAAAA\n-----END-----\n", "pin": 90210}}
    root = bench.openbao.root_token
    await bench.vault.call(root, lambda client: client.adapter.post("/v1/kv/data/lines", json=secret))
    refs = ["KEY@kv/data/lines.key", "PIN@kv/data/lines.pin"]
    run = r"printf -- '-----BEGIN-----\nAAAA\n-----END-----\n'; cat /secrets.yml"
    async with bench.runner():
        _, end, text = await bench.ended(run, secret_refs=refs, mask_secrets=True, tty=True)
    assert re.fullmatch(r"\*\*\*---\r\n# [^\r]+\r\nKEY: \|\r\n  \*\*\*\r\nPIN: \*\*\*\r\n", text)
    assert end.output_masked == 3


@pytest.mark.soak
async def test_output_does_not_stay_in_memory(bench: Bench) -> None:
    async with bench.runner(output_limit=0):
        await bench.ended("echo warm", secret_refs=REFS)
        before = memory.from_now(os.getpid())
        run = f"yes $(cat /secrets.yml) | head -c {48 * MIB}"
        _, end = await bench.end(await bench.submit(run, payload={"secret_refs": REFS, "mask_secrets": True}))
    assert memory.peak(os.getpid()) - before < 24 * MIB
    assert (end.return_code, end.output_truncated, end.output_complete) == (0, False, True)
    assert end.output_masked > 100_000


async def test_a_job_that_ends_while_its_account_is_full_succeeds_once_there_is_room(
    openbao: OpenBao, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats = NatsProcess(tmp_path / "nats", settings=SMALL)
    async with running(nats), connected(nats.url) as broker, connected(nats.url) as filling:
        bench = await make_bench(broker, openbao, busybox, tmp_path)
        publish, refused = broker.publish, asyncio.Event()

        async def noting(*arguments: Any, **options: Any) -> dict[str, Any]:
            answer = await publish(*arguments, **options)
            if "error" in answer:
                refused.set()
            return answer

        async with bench.runner():
            job_id = await bench.running(in_steps("echo up", "echo down"))
            await full_nats.fill(filling)
            monkeypatch.setattr(broker, "publish", noting)
            await bench.go_on(job_id)
            await refused.wait()
            await filling.api(f"STREAM.DELETE.{FILL}")
            job, end = await bench.end(job_id)
        assert (end.status, end.output_complete, await bench.text(job)) == ("success", True, "up\ndown\n")


async def test_a_job_waits_while_its_queue_may_be_paused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket was deleted under the runners. The next service that starts makes it again."""
    monkeypatch.setattr(worker, "RECONCILE", 0.2)
    await bench.broker.api(f"STREAM.DELETE.{kv_stream(PAUSES_BUCKET)}")
    with capture_logs() as said:
        async with bench.runner():
            job_id = await bench.submit()
            await until_true(lambda: said)
            await bench.declare()
            await bench.ends_well(job_id)
    assert "stream not found" in said[0]["error"]
