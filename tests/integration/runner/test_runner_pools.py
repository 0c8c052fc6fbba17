"""Runners that serve some queues only, alone and beside each other."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.streams import RUNNERS_BUCKET
from stint.core.names.subjects import drain_subject, phase_subject
from stint.jetstream import Bucket, serve_consumers
from stint.jetstream.wire.protocol import NoAnswerError
from stint.process.background import Rounds, rounds
from stint_runner.engine.docker import DockerEngine
from stint_runner.housekeeping import presence
from stint_runner.housekeeping.presence import Presence
from tests.support.accounts import Accounts, Guarded, nats_auth
from tests.support.runner_bench import Bench, make_bench
from tests.support.runner_process import LEASE, TAKEOVER, ended_at_last, runner_process
from tests.support.servers import OpenBao, running
from tests.support.waiting import meanwhile, until, until_there, until_true


@pytest.mark.soak
async def test_a_lost_job_is_taken_over_by_a_runner_that_serves_its_queue(bench: Bench, tmp_path: Path) -> None:
    times: dict[str, Any] = {"lease": LEASE, "takeover": TAKEOVER}
    async with ended_at_last(runner_process(bench, tmp_path, STINT_QUEUES="net-a")) as lost:
        await lost.start()
        job_id = await bench.running("echo; sleep 600", queue="net-a")
        async with bench.runner("other", queues="deploys", **times), bench.runner("nets", queues="net-*", **times):
            await lost.kill()
            _, end = await bench.end(job_id)
    assert (end.reason, end.by) == ("lost", "nets")


Confined = tuple[Guarded, Bench]


@pytest.fixture(params=["net-a,net-b", "net-*"])
async def confined(
    request: pytest.FixtureRequest, tmp_path: Path, openbao: OpenBao, busybox: str
) -> AsyncIterator[Confined]:
    """A NATS with an account for the pool `subnet`, and a bench that may do everything there."""
    accounts = Accounts(tmp_path / "keys", auth=True, pools={"subnet": request.param})
    server = Guarded(tmp_path / "nats", accounts=accounts)
    async with running(server), server.connected("operator") as broker:
        bench = await make_bench(broker, openbao, busybox, tmp_path)
        await bench.declare()
        async with (
            nats_auth(server, openbao, tmp_path / "auth"),
            server.connected("projector") as projector,
            meanwhile(serve_consumers(projector, in_memory=True)),
        ):
            yield server, bench


@pytest.mark.soak
async def test_a_pools_key_is_enough_for_its_queues(confined: Confined, tmp_path: Path) -> None:
    """A runner with nothing else: jobs, kills, a new queue, and an adoption."""
    server, bench = confined
    served = server.accounts.pools["subnet"]
    patient = {"STINT_LEASE": "30", "STINT_TAKEOVER": "15"}  # a busy machine takes long to start a runner again
    servers = {"STINT_NATS_URL": server.url, "STINT_QUEUES": served, "STINT_KILL_GRACE": "1"}
    settings = server.accounts.environ("subnet") | servers | patient
    async with ended_at_last(runner_process(bench, tmp_path, **settings)) as runner:
        await runner.start()
        other = await bench.submit(queue="deploys")
        await bench.ends_well(*[await bench.submit("echo out", queue=queue) for queue in ("net-a", "net-b", "net-a")])
        killed = await bench.running("echo; sleep 600", queue="net-a")
        await bench.append_kill(killed)
        assert (await bench.end(killed))[1].reason == "killed"
        adopted = await bench.running("echo; sleep 5; echo more", queue="net-b")
        await runner.kill()
        await runner.start()
        job, end = await bench.end(adopted)
        assert (job.state, end.output_complete) == (State.SUCCESS, True)
        assert (await bench.loaded(other)).state is State.QUEUED
        async with server.connected("api") as api, api.subscribe(phase_subject("*", "*")) as phases:
            lasting = await bench.running("echo; sleep 600", queue="net-a")  # a short job's phases are not told
            assert (await phases.next_msg(timeout=30)).subject.endswith(queue_token("net-a")), (
                "the API hears its phases"
            )
            await bench.append_kill(lasting)
            await bench.end(lasting)
            await api.send(drain_subject("runner-1"), b"anna")
            assert await runner.exit_code() == 0, "and can ask it to drain"
    denied = [line for line in server.log.splitlines() if "Violation" in line]
    looks = [line for line in denied if "CONSUMER.INFO.WORK" in line] if "*" in served else []  # at queues that are new
    assert denied == looks, denied
    assert len(looks) <= len(("net-a", "net-b", "net-a", "net-a", "net-b", "net-a")), "at most one for each job"


@pytest.mark.soak
@pytest.mark.parametrize("confined", ["net-*"], indirect=True)
async def test_a_new_queue_does_not_disturb_a_job_that_runs(confined: Confined, tmp_path: Path) -> None:
    """Its runner connects again for each of them."""
    server, bench = confined
    settings = {"STINT_NATS_URL": server.url, "STINT_QUEUES": "net-*", "STINT_KILL_GRACE": "1"}
    async with ended_at_last(
        runner_process(bench, tmp_path, **server.accounts.environ("subnet"), **settings)
    ) as runner:
        await runner.start()
        lasting = await bench.running("while echo; do sleep 0.02; done", queue="net-a")
        for queue in ("net-b", "net-c"):
            await bench.ends_well(await bench.submit("echo out", queue=queue))
        await bench.append_kill(lasting)
        _, end = await bench.end(lasting)
    assert (end.reason, end.output_complete) == ("killed", True)
    assert len(runner.said("nats connected")) > len(("net-a", "net-b", "net-c"))


async def test_a_runner_says_what_it_serves_if_its_engine_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(DockerEngine):
        async def info(self) -> Mapping[str, str | int]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(presence, "FIGURES_WITHIN", 0.01)
    async with (
        bench.runner("r", engine=Hanging(), queues="net-*,deploys") as worker,
        meanwhile(Presence(bench.broker, bench.runners["r"], worker).announce()),
    ):
        entry = await until_there(lambda: Bucket(bench.broker, RUNNERS_BUCKET).read("r"))
    assert json.loads(entry.value or b"")["queues"] == ["deploys", "net-*"]


async def test_two_runners_of_one_name_say_so_and_one_that_was_started_again_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "INTERVAL", 0.05)
    bucket = Bucket(bench.broker, RUNNERS_BUCKET)

    async def announcements() -> int:
        entry = await bucket.read("r")
        return entry.revision if entry else 0

    async with bench.runner("r") as worker:

        def announced() -> AbstractAsyncContextManager[None]:
            return meanwhile(Presence(bench.broker, bench.runners["r"], worker).announce())

        with capture_logs() as said:
            async with announced():
                before = await until(announcements)
            async with announced():
                await until(announcements, lambda revision: revision > before + 5)
                assert not said
                async with announced():
                    await until_true(lambda: len(said) >= 2)
    assert all("another runner has this name" in told["event"] for told in said)


async def test_announcements_that_nats_does_not_store_count_as_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: NATS is there and answers other requests."""
    told = list[bool]()

    class Told(Rounds):
        def ended(self, what: str, *, failed: bool) -> None:
            super().ended(what, failed=failed)
            told.append(failed)

    async def no_answer(*_: object, **__: object) -> NoReturn:
        raise NoAnswerError

    rounds.set(Told(time.monotonic))
    monkeypatch.setattr(presence, "INTERVAL", 0.05)
    async with bench.runner("r") as worker, meanwhile(Presence(bench.broker, bench.runners["r"], worker).announce()):
        await until_true(lambda: told)
        assert not any(told)
        with monkeypatch.context() as full:
            full.setattr(bench.broker, "publish", no_answer)
            await until_true(lambda: told[-1])
        await until_true(lambda: not told[-1])
