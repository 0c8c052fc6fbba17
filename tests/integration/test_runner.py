"""Runners on real NATS, Vault and Docker."""

import asyncio
import base64
import io
import tarfile
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from stint.core.events import Ended, KillRequested, Launched, Rejected, Started, Submitted
from stint.core.job import Job, State
from stint.core.subjects import EVENTS, LABEL_JOB, EventAddress, queue_token, unreadable_submission
from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from tests.support.containers import OpenBao
from tests.support.events import deleted, ended, event_id, kill_requested, started
from tests.support.outputs import written
from tests.support.runner_bench import PASSWORD, Bench, make_bench
from tests.support.waiting import until

ALERT = "POSSIBLE SECURITY/INTERCEPTION ALERT!!!"


@pytest.fixture
async def bench(broker: Broker, openbao: OpenBao, busybox: str) -> Bench:
    return await make_bench(broker, openbao, busybox)


async def _containers(job_id: str) -> int:
    engine = DockerEngine()
    try:
        return len(await engine.find({LABEL_JOB: job_id}))
    finally:
        await engine.close()


def _content(**files: str) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return "targz," + base64.b64encode(buffer.getvalue()).decode()


def _seconds(job: Job, kind: str) -> datetime:
    return datetime.fromisoformat(job.facts[kind].time[:26].rstrip("Z")).replace(tzinfo=UTC)


async def test_a_job_with_secret_content_and_environment(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.submit(
            "id -u; cat /secrets.yml /demo.txt; echo $A; echo oops >&2; exit 3",
            payload={
                "secret_refs": ["PASSWORD@kv/data/demo.password", "NUMBER@kv/data/demo.number"],
                "content": _content(**{"demo.txt": "hello from content\n"}),
                "env_vars": ["A=from env"],
            },
        )
        job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.return_code, end.error) == (State.FAILED, "exit_code", 3, "")
    text = await bench.text(job)
    for part in ("2001\n", f"PASSWORD: {PASSWORD}\n", "NUMBER: 7\n", "hello from content\n", "from env\n", "oops\n"):
        assert part in text
    assert list(job.facts) == ["submitted", "started", "launched", "ended"]
    assert (end.output_bytes, end.output_complete) == (len(text), True)
    last = await bench.output.last(job.token, job_id)
    assert last is not None
    assert (last.number, last.digest) == (end.chunks, end.output_digest)
    assert await _containers(job_id) == 0
    await bench.settled()


async def test_output_comes_while_the_job_runs(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.submit("echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last")
        async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
            assert (await anext(tail)).data == b"first\n"
            job = await bench.log.load(job_id)
            assert job is not None
            assert job.state is State.RUNNING
            launched = job.fact(Launched)
            assert launched is not None
            engine = bench.runners["runner-1"].engine
            go = io.BytesIO()
            with tarfile.open(fileobj=go, mode="w") as archive:
                archive.addfile(tarfile.TarInfo("tmp/go"))
            await engine.put_archive(launched.container_id, go.getvalue())
            assert (await anext(tail)).data == b"last\n"
        job, end = await bench.end(job_id)
    assert job.state is State.SUCCESS
    assert end.return_code == 0


async def test_a_queue_is_serial_across_runners_and_queues_are_independent(bench: Bench) -> None:
    ids = [await bench.submit("sleep 0.1", queue=f"queue {number % 3}") for number in range(9)]
    async with bench.runner("runner-1", capacity=2), bench.runner("runner-2", capacity=2):
        jobs = [(await bench.end(job_id))[0] for job_id in ids]
    for queue in range(3):
        own = jobs[queue::3]
        starts = [_seconds(job, "started") for job in own]
        assert starts == sorted(starts), "in the order of their submission"
        for earlier, later in pairwise(own):
            assert _seconds(earlier, "ended") <= _seconds(later, "started"), "one at a time"
    assert {job.state for job in jobs} == {State.SUCCESS}
    assert {job.runner for job in jobs} == {"runner-1", "runner-2"}
    await bench.settled()


async def test_capacity_bounds_the_jobs_at_a_time(bench: Bench) -> None:
    ids = [await bench.submit("sleep 0.2", queue=f"own {number}") for number in range(4)]
    async with bench.runner(capacity=2):
        jobs = [(await bench.end(job_id))[0] for job_id in ids]
    moments = sorted([(_seconds(job, "started"), 1) for job in jobs] + [(_seconds(job, "ended"), -1) for job in jobs])
    running = peak = 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    assert peak == 2


BAD: dict[str, tuple[dict[str, object], str, str, str]] = {
    "unknown image": ({"container_image": "no-such-registry.invalid/nothing:1"}, "failed", "image", ""),
    "no image": ({"container_image": ""}, "failed", "image", "ContainerImage is empty"),
    "bad policy": ({"image_pull_policy": "Never"}, "failed", "image", "Incorrect value for image_pull_policy: Never"),
    "another queue": ({"qname": "other"}, "failed", "payload", "do not match: 'other' != 'deploys'"),
    "bad content": ({"content": "zip,AAAA"}, "failed", "content", "unsupported archive format: zip"),
    "bad secret": ({"secret_refs": ["nonsense"]}, "failed", "secrets", "Secretref is unparseable: nonsense"),
    "no such secret": ({"secret_refs": ["X@kv/data/none.key"]}, "failed", "secrets", "kv/data/none"),
    "forbidden secret": ({"secret_refs": ["X@auth/token.key"]}, "failed", "secrets", "auth"),
    "bad file type": ({"secret_file_type": "toml"}, "failed", "secrets", "Invalid SecretFileType: 'toml'"),
    "no such command": ({"run": ["/no/such/command"]}, "failed", "container", "Run container failed"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_payloads_end_with_a_clear_answer_and_the_queue_goes_on(bench: Bench, name: str) -> None:
    payload, status, reason, sentence = BAD[name]
    async with bench.runner():
        bad, good = await bench.submit(payload=payload), await bench.submit("true")
        job, end = await bench.end(bad)
        assert (job.state, end.reason) == (status, reason)
        assert sentence in end.error
        assert end.error
        assert (await bench.end(good))[0].state is State.SUCCESS
    assert await _containers(bad) == 0
    await bench.settled()


async def test_a_tampered_payload(bench: Bench) -> None:
    async with bench.runner():
        job, end = await bench.end(await bench.submit(tamper=True))
    assert (job.state, end.reason) == (State.FAILED, "payload")
    assert ALERT in end.error


async def test_a_spent_wrapping_token_is_not_authorised_before_it_starts(bench: Bench) -> None:
    wrap = await bench.wrapped()
    await bench.vault.unwrap_secret_id(wrap)
    async with bench.runner():
        bad, good = await bench.submit(wrap_secret_id=wrap), await bench.submit("true")
        job, end = await bench.end(bad)
        assert (await bench.end(good))[0].state is State.SUCCESS
    assert job.state is State.NOTAUTHORISED
    assert ALERT in end.error
    assert wrap not in end.error
    assert job.fact(Started) is None


async def test_a_wrapping_token_that_expired_in_the_queue_says_so(bench: Bench) -> None:
    wrap = await bench.wrapped()
    await bench.vault.unwrap_secret_id(wrap)
    async with bench.runner():
        job, end = await bench.end(await bench.submit(wrap_secret_id=wrap, wrap_expires_at="2026-01-01T00:00:00Z"))
    assert job.state is State.NOTAUTHORISED
    assert "expired" in end.error
    assert ALERT not in end.error


async def test_a_wrapping_token_from_elsewhere_is_not_spent(bench: Bench) -> None:
    wrap = await bench.wrapped(role="stint-runner")
    async with bench.runner():
        job, _ = await bench.end(await bench.submit(wrap_secret_id=wrap))
    assert job.state is State.NOTAUTHORISED
    assert await bench.vault.unwrap_secret_id(wrap), "it still opens"


async def test_a_bare_wrapping_token_in_place_of_the_ticket_is_rejected(bench: Bench) -> None:
    async with bench.runner():
        bad, good = await bench.submit(ticket=await bench.wrapped()), await bench.submit("true")
        job, _ = await bench.end(bad)
        assert (await bench.end(good))[0].state is State.SUCCESS
    assert (job.state, job.fact(Started)) == (State.FAILED, None)
    assert job.fact(Rejected) is not None


async def test_a_ticket_of_another_job_is_rejected(bench: Bench) -> None:
    first = await bench.submit("true")
    async with bench.runner():
        job, _ = await bench.end(first)
        submitted = job.fact(Submitted)
        assert submitted is not None
        replay, _ = await bench.end(await bench.submit(ticket=submitted.ticket))
    assert replay.fact(Rejected) is not None


@pytest.mark.parametrize("body", [b"", b"\xff\xfe junk", b"[]", b'{"type":"submitted"}', b"x" * 900_000])
async def test_junk_on_the_submitted_subject_is_rejected_and_the_queue_goes_on(bench: Bench, body: bytes) -> None:
    token, junk = queue_token("deploys"), "a" * 24
    await bench.broker.publish(EventAddress("submitted", token, junk).subject, body)
    async with bench.runner():
        good = await bench.submit("true")
        job = await bench.until(junk, "rejected")
        assert (await bench.end(good))[0].state is State.SUCCESS
    assert job.state is State.FAILED
    await bench.settled()


@pytest.mark.parametrize("address", ["ev.submitted.MF.xyz", "ev.submitted.mf." + "a" * 24, "ev.submitted._.short"])
async def test_junk_subjects_are_recorded_outside_the_view(bench: Bench, address: str) -> None:
    await bench.broker.publish(address, b"junk")
    async with bench.runner():
        good = await bench.submit("true")
        assert (await bench.end(good))[0].state is State.SUCCESS
        await bench.settled()
    place = unreadable_submission("WORK", 1).subject
    answer = await bench.broker.api(f"STREAM.MSG.GET.{EVENTS}", {"last_by_subj": place})
    assert answer["message"]["subject"] == place


# --- kill -------------------------------------------------------------------------------------------------------


async def test_a_running_job_is_killed(bench: Bench) -> None:
    async with bench.runner(kill_grace=0.2):
        job_id = await bench.submit("echo up; sleep 600")
        async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
            await anext(tail)
        await bench.log.append(queue_token("deploys"), job_id, kill_requested())
        job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "killed", 137)
    assert await bench.text(job) == "up\n"
    assert await _containers(job_id) == 0


async def test_a_job_that_exits_0_on_a_kill_has_failed(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.submit("trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done")
        async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
            await anext(tail)
        await bench.log.append(queue_token("deploys"), job_id, kill_requested())
        job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "killed", 0)


async def test_a_kill_right_after_the_claim_never_starts_the_container(bench: Bench) -> None:
    """The kill lands between `started` and the container's start, wherever that is."""
    async with bench.runner():
        job_id = await bench.submit("echo it ran; sleep 600")
        await bench.until(job_id, "started")
        await bench.log.append(queue_token("deploys"), job_id, kill_requested())
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "killed")
    assert job.fact(KillRequested) is not None
    assert await _containers(job_id) == 0


async def test_a_job_that_was_killed_or_deleted_in_the_queue_never_runs(bench: Bench) -> None:
    token = queue_token("deploys")
    killed, removed, good = [await bench.submit("true") for _ in range(3)]
    job = await bench.log.load(killed)
    assert job is not None
    pair = (kill_requested(), ended("failed", "killed"))
    assert (await bench.log.append(token, killed, *pair, after=job.sequence)).value == "won"
    await bench.log.append(token, removed, deleted())
    async with bench.runner():
        assert (await bench.end(good))[0].state is State.SUCCESS
        await bench.settled()
    for job_id in (killed, removed):
        job = await bench.log.load(job_id)
        assert job is not None
        assert job.fact(Started) is None


# --- lost runners -----------------------------------------------------------------------------------------------


async def test_the_job_of_a_lost_runner_ends_unknown_and_its_queue_goes_on(bench: Bench) -> None:
    lost, good = await bench.submit("true"), await bench.submit("true")
    await bench.log.append(queue_token("deploys"), lost, started("runner-that-is-gone"))
    async with bench.runner(lease=3.0, takeover=7.0):
        job, end = await bench.end(lost)
        after, _ = await bench.end(good)
    assert (job.state, end.reason, end.by) == (State.UNKNOWN, "lost", "runner-1")
    assert after.state is State.SUCCESS
    assert (_seconds(after, "started") - _seconds(job, "ended")).total_seconds() >= 7, "T later"
    begun = _seconds(job, "started")
    assert (_seconds(job, "ended") - begun).total_seconds() >= 3, "its runner had a lease's time to renew"


async def test_a_restarted_runner_does_not_run_its_own_job_again(bench: Bench) -> None:
    mine = await bench.submit("echo again")
    await bench.log.append(queue_token("deploys"), mine, started("runner-1"))
    async with bench.runner("runner-1"):
        job, end = await bench.end(mine)
        await bench.settled()
    assert (job.state, end.reason) == (State.FAILED, "internal")
    assert await bench.text(job) == ""


async def test_a_runner_whose_job_was_ended_by_another_stops_it_at_once(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.submit("echo up; sleep 600")
        async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
            await anext(tail)
        theirs = Ended(event_id=event_id(), at="", by="runner-2", status="unknown", reason="lost")
        assert (await bench.log.append(queue_token("deploys"), job_id, theirs)).value == "won"
        await until(lambda: _containers(job_id), lambda found: not found, seconds=10)
    job = await bench.log.load(job_id)
    assert job is not None
    assert job.state is State.UNKNOWN
    queues = bench.runners["runner-1"].queues
    assert list(await queues.pending()) == [queue_token("deploys")], "its message is the other's to acknowledge"


async def test_a_runner_that_stops_ends_its_jobs(bench: Bench) -> None:
    async with bench.runner(kill_grace=0.2) as worker:
        job_id = await bench.submit("echo up; sleep 600")
        async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
            await anext(tail)
        worker.drain()
        worker._dispatcher.kill_all()  # noqa: SLF001 - what the composition root does after the drain's bound
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "killed")
    await bench.settled()


async def test_the_jobs_token_is_revoked_and_its_secret_id_spent(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.submit("echo $VAULT_TOKEN", payload={"expose_vault_token": True})
        job, _ = await bench.end(job_id)
    token = (await bench.text(job)).strip()
    assert len(token) > 20
    from stint.core.errors import VaultDeniedError  # noqa: PLC0415 - only this test

    with pytest.raises(VaultDeniedError):
        await bench.vault.lookup_self(token)
