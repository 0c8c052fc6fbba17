"""What a client is answered: by `FakeStint`, and by a real API whose runner and projector the test plays."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from stint.client import ApiRefusedError, AuditEntry, Client, Fact, ForgedReceiptError, JobChange, check_receipt
from stint.core.names.ids import queue_name, queue_token
from stint.core.submission.payload import JobPayload
from stint.testing import Ending, FakeStint
from tests.support import events
from tests.support.accounts import Accounts
from tests.support.api_bench import secret
from tests.support.brokers import loaded
from tests.support.client_bench import Bench, opened
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until


class Fake:
    """A Stint whose jobs do only what the test says."""

    def __init__(self) -> None:
        self._stint = FakeStint(lambda _job: None)
        self.client, self.end, self.hold = self._stint.client, self._stint.end, self._stint.hold

    async def come_back(self, job_id: str) -> None:
        self._stint.come_back(job_id)

    async def runner(self) -> str:
        return "fake"

    async def project(self, *_job_ids: str) -> None:
        """There is no lag."""


class Real:
    """Likewise."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.project = bench.project

    def client(self) -> Client:
        return Client.connect(self._bench.where)

    async def end(self, job_id: str, ending: Ending, **secrets: int) -> None:
        queue = await self._queue(job_id)
        await self._bench.run(queue, job_id, ending.output, ending.return_code, secrets=dict(secrets))

    async def hold(self, job_id: str) -> None:
        token = queue_token(await self._queue(job_id))
        for event in (events.started(), events.launched(), events.held()):
            await self._bench.log.append(token, job_id, event)

    async def come_back(self, job_id: str) -> None:
        await self._bench.write(await self._queue(job_id), job_id, b"back\n")

    async def _queue(self, job_id: str) -> str:
        return queue_name((await loaded(self._bench.log, job_id)).token)

    async def runner(self) -> str:
        name = f"runner-{secret().lower()}"
        await self._bench.runner(name)
        return name


World = Fake | Real

REAL = pytest.mark.parametrize("world", ["real"], indirect=True)
"""What `FakeStint` does not know."""


@pytest.fixture(scope="module")
async def bench(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    accounts = Accounts(tmp_path_factory.mktemp("keys"))
    async with (
        running(nats := NatsProcess(tmp_path_factory.mktemp("nats"), settings=accounts.settings)),
        opened(tmp_path_factory.mktemp("api"), nats, openbao, accounts) as bench,
    ):
        yield bench


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    return Fake() if request.param == "fake" else Real(request.getfixturevalue("bench"))


@pytest.fixture
async def stint(world: World) -> AsyncIterator[Client]:
    async with world.client() as stint:
        yield stint


@pytest.fixture
def queue() -> str:
    return secret().lower()


async def test_a_job_is_submitted_followed_and_listed(world: World, stint: Client, queue: str) -> None:
    job = await stint.submit(queue=queue, image="busybox", key=queue)
    assert (await stint.submit(queue=queue, image="busybox", key=queue)).id == job.id
    with pytest.raises(TimeoutError):
        await job.wait(timeout=0.01)
    waiting = asyncio.create_task(job.wait(timeout=60))
    other = stint.job(job.id)
    without_output = asyncio.create_task(other.wait(output=False))
    await world.end(job.id, Ending(output=b"one\n\xfftwo\n", return_code=3))
    result = await waiting
    assert (result.status, result.reason, result.return_code, result.output_bytes) == ("failed", "exit_code", 3, 9)
    assert (result.last_lines, result.output_complete, result.queue) == (("one", "\ufffdtwo"), True, queue)
    assert await job.wait() is result
    assert (await job.wait(output=False)).tail == b""
    assert ((await without_output).return_code, (await without_output).tail) == (3, b"")
    assert await other.wait() == result
    facts = [item async for item in job.stream() if isinstance(item, Fact)]
    assert [fact.kind for fact in facts] == ["submitted", "started", "launched", "ended"]
    assert sorted(facts, key=lambda fact: (fact.at, fact.sequence)) == facts
    copy = io.BytesIO()
    assert await other.copy_output(copy) == result
    assert copy.getvalue() == await job.output() == await job.output(stream="stdout") == b"one\n\xfftwo\n"
    assert await job.output(stream="stderr") == b""
    await world.project(job.id)

    async def listed(status: str) -> list[str]:
        return [found.id async for found in stint.jobs(queue=queue, status=status)]

    assert await until(lambda: listed("failed"), bool) == [job.id]
    assert await listed("success") == []
    counts = await stint.counts(queue=queue)
    assert {status: count for status, count in counts.items() if count} == {"failed": 1}


async def test_a_list_comes_in_pages_and_counts_count_every_status(world: World, stint: Client, queue: str) -> None:
    jobs = [await stint.submit(queue=queue, image="busybox") for _ in range(5)]
    await world.end(jobs[0].id, Ending(return_code=1))
    await world.project(*(job.id for job in jobs))
    counted = await until(
        lambda: stint.counts(queue=queue, status="failed"), lambda counts: sum(counts.values()) == len(jobs)
    )
    assert counted == {"failed": 1, "queued": 4}
    newest_first = [job.id for job in reversed(jobs)]
    async with aclosing(stint.jobs(queue=queue, page=2)) as listed:
        found = [(await anext(listed)).id]
        await jobs[4].kill()
        await jobs[4].delete()
        await world.project(jobs[4].id)
        found += [job.id async for job in listed]
    assert found == newest_first


async def test_a_job_is_killed_and_deleted(stint: Client, queue: str) -> None:
    job = await stint.submit(queue=queue, image="busybox")
    await job.kill()
    await job.kill()
    info = await job.info()
    assert (info.status, info.reason, info.kill_requested) == ("failed", "killed", True)
    await job.delete()
    for call in (job.info, job.delete, job.kill, job.release):
        with pytest.raises(ApiRefusedError, match="has no job") as caught:
            await call()
        assert caught.value.code == 404


async def test_a_key_names_one_job(stint: Client, queue: str) -> None:
    """Though each time it is sealed it is another request."""
    key = secret()
    first = await stint.submit(queue=queue, image="busybox", key=key)
    assert (await stint.submit(queue=queue, image="another", key=key)).id == first.id
    with pytest.raises(ApiRefusedError, match="was used for another request") as caught:
        await stint.submit(queue=f"{queue}-other", image="busybox", key=key)
    assert caught.value.job_id == first.id
    await first.delete()
    with pytest.raises(ApiRefusedError, match=f"{first.id}, was deleted") as gone:
        await stint.submit(queue=queue, image="busybox", key=key)
    assert gone.value.code == 410


async def test_what_is_sent_again_is_the_same_request(stint: Client, queue: str) -> None:
    key, sealed = secret(), await stint.seal(JobPayload(qname=queue, container_image="busybox"))
    job = await stint.send(sealed, key=key)
    assert (await stint.send(sealed, key=key)).id == job.id
    await job.delete()
    with pytest.raises(ApiRefusedError, match=f"{job.id}, was deleted") as gone:
        await stint.send(sealed, key=key)
    assert gone.value.code == 410


async def test_a_held_job_says_whether_its_runner_is_back_until_it_is_released(
    world: World, stint: Client, queue: str
) -> None:
    job = await stint.submit(queue=queue, image="busybox", on_lost="hold")
    with pytest.raises(ApiRefusedError, match="Only a job that is held") as caught:
        await job.release()
    assert caught.value.code == 400
    await world.hold(job.id)
    info = await job.info()
    assert (info.status, info.held, info.back_since) == ("running", True, None)
    await world.come_back(job.id)
    info = await job.info()
    assert info.held
    assert info.held_since
    assert info.back_since
    assert info.held_since <= info.back_since
    with pytest.raises(ApiRefusedError, match="Cannot delete"):
        await job.delete()
    await world.project(job.id)
    found = await until(lambda: stint.queue(queue), lambda found: found.held)
    assert (found.running, found.running_status) == (job.id, "running")
    assert await job.release() == "running"
    assert await job.release() == "unknown"
    result = await job.wait()
    assert (result.status, result.reason, result.output_complete) == ("unknown", "lost", False)
    assert result.back_since == info.back_since


async def test_a_queue_is_paused_and_resumed(world: World, stint: Client, queue: str) -> None:
    """Whatever its name: a path could not contain it."""
    queue = f"{queue}/../ünï"
    jobs = [await stint.submit(queue=queue.upper(), image="busybox") for _ in range(2)]
    await world.project(*(job.id for job in jobs))
    paused = await stint.pause(queue.upper(), reason="a test")
    assert paused.paused
    assert (paused.name, paused.paused.reason, paused.paused.at is not None) == (queue, "a test", True)
    assert paused.paused.who
    found = await until(lambda: stint.queue(queue), lambda found: found.depth == len(jobs))
    assert (found.waiting, found.held, found.running) == (tuple(job.id for job in jobs), False, "")
    assert [found.name for found in await stint.queues() if found.paused and found.name == queue] == [queue]
    assert (await stint.resume(queue)).paused is None
    assert (await stint.resume(queue)).paused is None
    nothing = await stint.queue(f"{queue}-other")
    assert (nothing.depth, nothing.waiting, nothing.ended_last_hour) == (0, (), 0)


async def test_changes_are_told_as_they_come(world: World, stint: Client, queue: str) -> None:
    async with aclosing(stint.events(queue=queue)) as told, asyncio.timeout(60):
        assert (await anext(told)).kind == "begun"
        job = await stint.submit(queue=queue, image="busybox")
        await world.project(job.id)
        assert _status(await anext(told), job.id) == "queued"
        await world.end(job.id, Ending())
        await world.project(job.id)
        assert _status(await anext(told), job.id) == "success"


def _status(change: JobChange, job_id: str) -> str:
    assert (change.kind, change.id) == ("job", job_id)
    return change.job.status if change.job else ""


async def test_nobody_is_drained(stint: Client) -> None:
    with pytest.raises(ApiRefusedError) as caught:
        await stint.drain("nobody")
    assert caught.value.code == 404


@REAL
async def test_what_was_done_is_in_the_audit(world: World, stint: Client, queue: str) -> None:
    killed, held = [await stint.submit(queue=queue.upper(), image="busybox", on_lost="hold") for _ in range(2)]
    await killed.kill()
    await killed.kill()
    await killed.delete()
    await world.hold(held.id)
    await held.release()
    await stint.pause(queue, reason="a test")
    await stint.resume(queue)
    wanted = [
        ("resumed", "", "", "accepted", ""),
        ("paused", "", "a test", "accepted", ""),
        ("released", held.id, "", "accepted", "unknown"),
        ("deleted", killed.id, "", "accepted", "deleted"),
        ("kill_requested", killed.id, "", "accepted", "deleted"),
        ("submitted", held.id, "", "accepted", "unknown"),
        ("submitted", killed.id, "", "accepted", "deleted"),
    ]

    async def audit(**filters: Any) -> list[AuditEntry]:
        return [entry async for entry in stint.audit(page=3, **filters)]

    found = await until(lambda: audit(queue=queue.upper()), lambda found: len(found) >= len(wanted))
    assert [(entry.action, entry.job, entry.reason, entry.answer, entry.status) for entry in found] == wanted
    assert {(entry.queue, entry.proven, entry.claimed) for entry in found} == {(queue, True, "")}
    (who,) = {entry.who for entry in found}
    assert who
    assert len(await audit(queue=queue, who=who)) == len(wanted)
    assert len(await audit(queue=queue, since=found[0].at)) < len(wanted)
    assert await audit(queue=queue, who="nobody") == await audit(queue=f"{queue}-other") == []


@REAL
async def test_who_drained_a_runner_is_in_the_audit(world: World, stint: Client) -> None:
    name = await world.runner()
    await until(stint.runners, lambda found: name in {runner.name for runner in found})
    await stint.drain(name)

    async def drained() -> list[tuple[str, str, str]]:
        return [(entry.action, entry.queue, entry.job) async for entry in stint.audit() if entry.runner == name]

    assert await until(drained, bool) == [("drain_requested", "", "")]


@REAL
async def test_jobs_are_found_by_their_secrets(world: Real, stint: Client, queue: str) -> None:
    path = f"kv/data/{queue}"
    password, user = f"{path}.password", f"{path}.user"
    jobs = []
    for version in (1, 2):
        job = await stint.submit(queue=queue, image="busybox", secrets={"a": password, "b": user})
        await world.end(job.id, Ending(), **{password: version, user: version})
        jobs.append(job.id)

    async def lineage(secret: str, **filters: Any) -> list[tuple[str, str, int | None, bool]]:
        uses = [use async for use in stint.lineage(secret, page=1, **filters)]
        assert all(use.queue == queue and use.who and use.status == "success" for use in uses)
        return [(use.job, use.secret, use.version, use.outdated) for use in uses]

    old, new = (jobs[0], password, 1, True), (jobs[1], password, 2, False)
    assert await until(lambda: lineage(password), lambda found: len(found) == 2) == [new, old]
    assert await lineage(password, version=1) == await lineage(password, outdated=True) == [old]
    assert await lineage(password, outdated=False) == [new]
    assert sorted(name for _, name, _, _ in await lineage(path)) == [password] * 2 + [user] * 2
    assert await lineage(f"{path}-other") == []


@REAL
async def test_a_receipt_is_signed_once_a_job_is_over(world: World, stint: Client, queue: str) -> None:
    job = await stint.submit(queue=queue, image="busybox")
    with pytest.raises(ApiRefusedError, match="The job is not over yet") as caught:
        await job.receipt()
    assert caught.value.code == 400
    await world.end(job.id, Ending(output=b"one\ntwo\n", return_code=3))
    receipt, keys = await job.receipt(), await stint.receipt_keys()
    stated = check_receipt(receipt, keys).statement
    assert (stated.job, stated.queue, stated.status, stated.return_code) == (job.id, queue, "failed", 3)
    assert (stated.output.bytes, stated.output.complete) == (8, True)
    assert (stated.asked.proven, bool(stated.asked.who), stated.asked.nats_user) == (True, True, "")
    assert [fact.kind for fact in stated.facts] == ["submitted", "started", "launched", "ended"]
    with pytest.raises(ForgedReceiptError):
        check_receipt(receipt.replace(b'"return_code":3', b'"return_code":0'), keys)
