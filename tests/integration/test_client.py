"""The library's calls, on a real API and a real Vault. Where a job must run, the test plays its runner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from stint.client import ApiRefusedError, ApiUnreachableError, Client, JobResult, Output, SyncClient, check_receipt
from stint.vault import Vault
from stint.vault.setup import client_token
from tests.support.api_bench import api_process, secret
from tests.support.client_bench import Bench, opened
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import until, until_true


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with opened(tmp_path_factory.mktemp("api"), nats, openbao) as bench:
        yield bench


async def test_the_changes_of_jobs_are_told_as_they_come(
    bench: Bench, queue: str, nats: NatsProcess, openbao: OpenBao, tmp_path: Path
) -> None:
    """Also after the API was away, whose next process says that something may be missing."""
    async with (
        api_process(tmp_path / "api", nats.url, openbao) as (server, _),
        Client.connect(replace(bench.where, url=server.url)) as stint,
        asyncio.timeout(60),
        aclosing(stint.events(queue=queue)) as told,
    ):
        job = await stint.submit(queue=queue, image="busybox")
        assert (await anext(told)).kind == "begun"
        await bench.project(job.id)
        change = await anext(told)
        assert (change.kind, change.id, change.job and change.job.status) == ("job", job.id, "queued")
        await server.kill()
        await server.start()
        await bench.forget(job.id)
        assert (await anext(told)).kind in {"missed", "gone"}  # whether its next process had read the deletion


async def test_a_job_runs_again(bench: Bench, queue: str, nats: NatsProcess, openbao: OpenBao, tmp_path: Path) -> None:
    async with (
        api_process(tmp_path / "api", nats.url, openbao, STINT_KEEP_PAYLOADS="3600", STINT_ERASURE="off") as (
            server,
            _,
        ),
        Client.connect(replace(bench.where, url=server.url)) as stint,
    ):
        job = await stint.submit(queue=queue, image="busybox")
        with pytest.raises(ApiRefusedError, match="has not ended yet"):
            await stint.rerun(job.id)
        await job.kill()
        again = await stint.rerun(job.id)
        assert again.id != job.id
        info = await again.info()
        assert (info.queue, info.status) == (queue, "queued")
        key = secret()
        keyed = await stint.rerun(job.id, key=key)
        assert (await stint.rerun(job.id, key=key)).id == keyed.id != again.id
        await again.kill()
        with pytest.raises(ApiRefusedError, match="was used for another request"):
            await stint.rerun(again.id, key=key)


@pytest.mark.soak
async def test_requests_are_repeated_while_stint_is_away(
    bench: Bench, queue: str, nats: NatsProcess, openbao: OpenBao, tmp_path: Path
) -> None:
    async with api_process(tmp_path / "api", nats.url, openbao) as (server, _):
        where = replace(bench.where, url=server.url)
        async with Client.connect(where, patience=60) as stint, Client.connect(where, patience=0) as hasty:
            job = await stint.submit(queue=queue, image="busybox")
            await server.kill()
            asking = asyncio.create_task(job.info())
            with pytest.raises(ApiUnreachableError):
                await hasty.job(job.id).info()
            await server.start()
            assert (await asking).status == "queued"


async def test_the_same_calls_without_async(bench: Bench, queue: str) -> None:
    """In a thread of the test's own, as a program without an event loop would be."""
    ids: list[str] = []

    def program() -> tuple[list[object], JobResult]:
        with SyncClient.connect(bench.where) as stint:
            job = stint.submit(queue=queue, image="busybox")
            ids.append(job.id)
            items: list[object] = [item.data for item in job.stream() if isinstance(item, Output)]
            for _ in job.stream():
                break  # a stream that is left early is closed
            result = job.wait(timeout=10)
            assert check_receipt(job.receipt(), stint.receipt_keys()).statement.job == job.id
            assert {entry.job for entry in stint.audit(queue=queue)} <= {job.id}
            assert list(stint.lineage("kv/data/no-such.secret")) == []
            return items, result

    running = asyncio.create_task(asyncio.to_thread(program))
    await until_true(lambda: bool(ids))
    await bench.run(queue, ids[0], b"hello\n")
    items, result = await running
    assert (items, result.check().status) == ([b"hello\n"], "success")


async def test_a_report_that_is_wrong_hides_no_runner(bench: Bench, stint: Client) -> None:
    wrong = {"started": "yesterday", "kill_grace": "x", "containers": [], "architecture": {}, "queues": 1}
    for number, started in enumerate(("yesterday", "0001-01-01T00:00:00+14:00", [], "")):
        await bench.runner(f"wrong-{number}", msgspec.json.encode(wrong | {"started": started}))
    found = await until(stint.runners, lambda found: sum(one.name.startswith("wrong") for one in found) == 4)
    assert {(one.started, one.kill_grace, one.queues) for one in found if one.name.startswith("wrong")} == {
        (None, 0, ())
    }
    for number in range(4):  # or else they would serve the queues of other tests
        await bench.leave(f"wrong-{number}")
    await until(stint.runners, lambda found: not any(one.name.startswith("wrong") for one in found))


@pytest.mark.soak
async def test_changes_end_with_their_token_and_say_so(bench: Bench, openbao: OpenBao) -> None:
    token = await client_token(openbao.address, openbao.root_token)
    async with (
        Client.connect(replace(bench.where, token=token)) as stint,
        Vault(openbao.address) as vault,
        asyncio.timeout(60),
        aclosing(stint.events()) as changes,
    ):
        assert (await anext(changes)).kind == "begun"
        await vault.revoke_self(token)
        with pytest.raises(ApiRefusedError, match="Vault does not accept the token"):
            async for _ in changes:
                pass
