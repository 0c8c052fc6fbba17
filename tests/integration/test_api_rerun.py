"""Running a job again: what is stored, who may, and when it is too late."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from stint.core.events import Submitted
from stint.core.names.ids import queue_token
from stint.core.names.streams import KEPT
from stint.core.names.subjects import kept_subject
from stint.jetstream.streams.stream import Stream
from stint.vault.ticket import open_ticket
from tests.support import submissions
from tests.support.api_bench import BODY, Bench, api
from tests.support.events import ended, started, submitted
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import until

JOB = "/v1/api/job"
TOKEN = queue_token("deploys")
WRAP = {"wrap_secret_id": "a-fresh-one"}


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao, STINT_KEEP_PAYLOADS="600", STINT_ERASURE="off") as bench:
        yield bench


async def over(bench: Bench, **fields: Any) -> str:
    """A job that has ended, and whose payload the projector has removed."""
    job_id = await bench.submitted(**fields)
    for event in (started(), ended("failed")):
        await bench.parts.log.append(TOKEN, job_id, event)
    await bench.parts.payloads.purge(TOKEN, job_id)
    return job_id


async def rerun(bench: Bench, job_id: str, **headers: str) -> httpx.Response:
    return await bench.http.post(f"{JOB}/{job_id}/rerun", json=WRAP, headers=headers)


async def fact(bench: Bench, job_id: str) -> Submitted:
    return submissions.submitted(await bench.load(job_id))


async def test_it_is_a_new_job_with_the_same_payload_and_a_ticket_of_its_own(bench: Bench) -> None:
    old = await over(bench, on_lost="hold")
    answer = await rerun(bench, old)
    assert answer.status_code == 200, answer.text
    new = answer.json()["_id"]
    assert answer.json() == {"_id": new, "status": "queued", "qname": "deploys"}
    first, second = await fact(bench, old), await fact(bench, new)
    assert (second.rerun_of, second.on_lost, first.rerun_of) == (old, "hold", "")
    assert second.payload_digest == first.payload_digest
    payload = await bench.parts.payloads.get(TOKEN, new, second.payload_chunks)
    assert payload == BODY["payload"].encode()
    ticket = await open_ticket(bench.vault, bench.root, second.ticket, queue_token=TOKEN, job_id=new)
    assert ticket.wrap_secret_id == WRAP["wrap_secret_id"]
    assert ticket.payload_sha256 == hashlib.sha256(payload).hexdigest()
    assert (await bench.http.get(f"{JOB}/{new}")).json()["rerun_of"] == old
    await bench.parts.log.append(TOKEN, new, ended("failed"))
    assert (await rerun(bench, new)).status_code == 200, "a rerun can be run again"


async def test_a_repeated_request_makes_one_job(bench: Bench) -> None:
    old, other = await over(bench), await over(bench)
    key = {"Idempotency-Key": "again"}
    answers = await asyncio.gather(*(rerun(bench, old, **key) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["_id"] for answer in answers}) == 1
    assert (await rerun(bench, other, **key)).status_code == 409


@pytest.mark.parametrize("size", [-(10**15), 10**12], ids=["less than nothing", "more than any has"])
async def test_a_publisher_who_lies_about_a_size_gains_and_takes_no_room(bench: Bench, size: int) -> None:
    """What requests hold is counted by it: less than nothing would make room for any number of them."""
    job_id = secrets.token_hex(12)
    lie = msgspec.structs.replace(submitted("deploys"), payload_bytes=size, payload_digest="0" * 64)
    for event in (lie, started(), ended("failed")):
        await bench.parts.log.append(TOKEN, job_id, event)
    answer = await rerun(bench, job_id)
    assert (answer.status_code, "is not kept" in answer.json()["error"]) == (410, True)


async def test_only_a_job_that_is_over_and_kept_and_whole_is_run_again(bench: Bench) -> None:
    waiting, deleted, planted = await bench.submitted(), await over(bench), await over(bench)
    assert (await rerun(bench, waiting)).status_code == 400
    assert (await bench.http.delete(f"{JOB}/{deleted}")).status_code == 200
    assert (await rerun(bench, deleted)).status_code == 404
    digest = (await fact(bench, planted)).payload_digest
    kept = Stream(bench.broker, KEPT)
    assert await kept.last(kept_subject(TOKEN, deleted, "*", "*")) is None
    await bench.parts.kept.purge(TOKEN, planted)
    await bench.broker.publish(kept_subject(TOKEN, planted, digest, 0), b"vault:v1:b3RoZXI=")
    answer = await rerun(bench, planted)
    assert (answer.status_code, "is not kept" in answer.json()["error"]) == (410, True)
    for body in (b"", b"[]", b'{"wrap_secret_id": 1}', b"{}", b"\xff"):
        assert (await bench.http.post(f"{JOB}/{await over(bench)}/rerun", content=body)).status_code == 400


async def test_it_needs_to_read_the_job_and_to_submit_to_its_queue(bench: Bench) -> None:
    old = await over(bench)
    for capabilities, status in (("read", 403), ("create", 403), ("read,create", 200)):
        quoted = ", ".join(f'"{name}"' for name in capabilities.split(","))
        rule = f'path "stint/queue/deploys" {{ capabilities = [{quoted}] }}'
        answer = await rerun(bench, old, **{"X-Auth-Token": await bench.token_with(rule)})
        assert answer.status_code == status, capabilities


async def test_a_payload_is_kept_for_as_long_as_the_operator_says(nats: NatsProcess, openbao: OpenBao) -> None:
    async with api(nats.url, openbao) as none:
        old = await over(none)
        assert (await fact(none, old)).payload_digest == ""
        assert await Stream(none.broker, KEPT).last(kept_subject(TOKEN, old, "*", "*")) is None
        assert (await rerun(none, old)).status_code == 410
    async with api(nats.url, openbao, STINT_KEEP_PAYLOADS="1", STINT_ERASURE="off") as brief:
        old = await over(brief)
        await until(lambda: rerun(brief, old), lambda answer: answer.status_code == 410)


async def test_nothing_readable_is_kept(bench: Bench) -> None:
    plain = {"container_image": "busybox", "env_vars": ["A=a-value-of-the-job"], "payload": ""}
    old = await over(bench, **plain)
    submitted = await fact(bench, old)
    stored = await bench.parts.kept.get(TOKEN, old, submitted.payload_digest, submitted.payload_bytes)
    assert stored.startswith(b"vault:v1:")
    new = (await rerun(bench, old)).json()["_id"]
    assert (await fact(bench, new)).container_image == "busybox"
