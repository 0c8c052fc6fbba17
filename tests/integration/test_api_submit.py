import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stint.core.errors import VaultError
from stint.core.payload import JobPayload, parse_payload
from tests.support.api_bench import ROLE, SEALED, ApiProcess, Bench, api, secret, service_environ
from tests.support.containers import OpenBao
from tests.support.servers import BaoProcess, NatsProcess, running
from tests.support.submissions import Client, opened, stored, submitted

MIB = 1 << 20


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


@pytest.fixture(scope="module")
async def compat(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token, STINT_COMPAT="gostint") as bench:
        await bench.parts.index.ready.wait()
        yield bench


# --- what a plain job may say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["", "advance", "hold"])
@pytest.mark.parametrize("fields", [{}, {"payload": "", "container_image": "busybox"}])
async def test_on_lost_is_recorded(bench: Bench, word: str, fields: dict[str, Any]) -> None:
    job = await bench.parts.log.load(await bench.submitted(on_lost=word, **fields))
    assert job is not None
    assert submitted(job).on_lost == word


@pytest.mark.parametrize("fields", [{}, {"payload": "", "container_image": "busybox"}])
@pytest.mark.parametrize("word", ["HOLD", "wait", 7])
async def test_another_on_lost_is_a_400(bench: Bench, fields: dict[str, Any], word: object) -> None:
    answer = await bench.submit(on_lost=word, **fields)
    assert (answer.status_code, "on_lost" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", -1),
        ("timeout", "1"),
        ("cpus", 1e30),
        ("memory", "much"),
        ("memory", 10**30),
        ("memory", 1.5),
        ("pids", -1),
        ("network", "host"),
        ("mask_secrets", "yes"),
        ("read_only", 1),
    ],
)
async def test_a_plain_jobs_limits_are_checked_at_once(bench: Bench, compat: Bench, name: str, value: object) -> None:
    answer = await bench.submit(payload="", container_image="busybox", **{name: value})
    assert (answer.status_code, name in answer.json()["error"]) == (400, True)
    assert (await compat.submit(**{name: value})).status_code == 400


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_limit_is_a_number(bench: Bench, literal: str) -> None:
    body = f'{{"wrap_secret_id": "x", "container_image": "busybox", "timeout": {literal}}}'
    answer = await bench.http.post("/v1/api/job", content=body)
    assert answer.status_code == 400
    beside = body.replace("container_image", "unknown").replace("{", f'{{"payload": "{SEALED}", ')
    assert (await bench.http.post("/v1/api/job", content=beside)).status_code == 400
    large = beside.replace(literal, "1e300")
    assert (await bench.http.post("/v1/api/job", content=large, headers={"Idempotency-Key": secret()})).is_success


async def test_limits_reach_the_runner(bench: Bench) -> None:
    asked = {"timeout": 1.5, "mask_secrets": True, "cpus": 0.5, "memory": "64m", "pids": 9, "network": "none"}
    job_id = await bench.submitted(payload="", container_image="busybox", read_only=True, **asked)
    job = await bench.parts.log.load(job_id)
    assert job is not None
    expected = JobPayload(qname="deploys", container_image="busybox", read_only=True, **asked)  # type: ignore[arg-type] # of several types
    assert (await opened(bench, job, "deploys", compat=False)).job == expected


async def test_only_documented_fields_count(bench: Bench) -> None:
    forged = {"_id": "0" * 24, "status": "success", "submitted": "2001-01-01T00:00:00Z", "output": "x", "by": "root"}
    job_id = await bench.submitted(**forged, container_id="x", return_code=3, node_uuid="x", ended="2001", started="x")
    assert job_id != "0" * 24
    job = (await bench.http.get(f"/v1/api/job/{job_id}")).json()
    assert (job["status"], job["return_code"], job["node_uuid"], job["container_id"]) == ("queued", 0, "", "")
    assert not job["submitted"].startswith("2001")
    assert {job["started"], job["ended"]} == {"0001-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("qname", "shown"),
    [("", ""), (None, ""), ("ÄÖ x.*>/", "äö x.*>/"), ("q" * 1000, "q" * 1000), ("\u00e9" * 500, "\u00e9" * 500)],
)
async def test_any_text_is_a_queues_name(bench: Bench, qname: str | None, shown: str) -> None:
    answer = await bench.submit(qname=qname)
    assert (answer.status_code, answer.json()["qname"]) == (200, shown)


@pytest.mark.parametrize("qname", ["q" * 1001, "\u00e9" * 501, "a\nb", "\x7f", "a\x85"])
async def test_but_not_a_long_one_or_one_with_control_characters(bench: Bench, qname: str) -> None:
    answer = await bench.submit(qname=qname)
    assert (answer.status_code, answer.json()["status"]) == (400, "Invalid job request.")


async def test_the_cubbyhole_goes_before_the_payload_and_an_empty_job_is_one(bench: Bench) -> None:
    other = "vault:v1:b3RoZXI="
    token = await bench.cubbyhole({"payload": other})
    job = await bench.parts.log.load(await bench.submitted(cubby_token=token, cubby_path="cubbyhole/job"))
    assert job is not None
    assert (await stored(bench, job))[0] == other.encode()
    empty = await bench.parts.log.load(await bench.submitted(payload=None))
    assert empty is not None
    assert parse_payload(
        await bench.vault.decrypt(bench.root, ROLE, (await stored(bench, empty))[0].decode())
    ) == JobPayload(qname="deploys")


@pytest.mark.parametrize("token", ["unknown", "no such token", "\u00e9"])
async def test_an_unknown_cubby_token_is_an_alarm_and_nothing_is_queued(bench: Bench, token: str) -> None:
    client = Client(bench)
    answer = await bench.submit(qname=client.qname, payload="", cubby_token=token, cubby_path="cubbyhole/job")
    assert answer.status_code == 500
    assert answer.json()["status"] == "Internal Error."
    assert answer.json()["error"].startswith("POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole")
    assert await client.pending() == 0


# --- sizes ----------------------------------------------------------------------------------------------------------


async def test_content_may_have_16_mib(bench: Bench) -> None:
    content = os.urandom(16 * MIB)
    job_id = await bench.submitted(payload="", content=f"targz,{base64.b64encode(content).decode()}")
    job = await bench.parts.log.load(job_id)
    assert job is not None
    assert submitted(job).payload_bytes > 16 * MIB * 16 // 9
    await stored(bench, job)
    assert (await bench.http.delete(f"/v1/api/job/{job_id}")).is_success
    more = f"targz,{base64.b64encode(content + b'xxx').decode()}"
    answer = await bench.submit(payload="", content=more)
    assert (answer.status_code, answer.json()["status"]) == (413, "Too Large.")
    assert "16 MiB" in answer.json()["error"]
    assert (await bench.submit(content=more)).is_success  # beside a sealed payload it does not count


@pytest.fixture(scope="module")
async def process(
    nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    environ = await service_environ(nats.url, openbao.address, openbao.root_token)
    async with running(server := ApiProcess(tmp_path_factory.mktemp("api"), environ=environ)):
        yield server


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_sends_all_before_it_reads_gets_the_413(
    bench: Bench, process: ApiProcess, chunked: bool
) -> None:
    size = 40 * MIB
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = f"POST /v1/api/job HTTP/1.1\r\nHost: api\r\nX-Auth-Token: {bench.token}\r\n{length}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(head.encode())
    for _ in range(size // MIB):
        writer.write(b"%x\r\n%b\r\n" % (MIB, bytes(MIB)) if chunked else bytes(MIB))
        await writer.drain()
    writer.write(b"0\r\n\r\n" if chunked else b"")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    head_rest = await reader.readuntil(b"\r\n\r\n")
    assert b"content-type: application/json" in head_rest
    assert json.loads(await reader.readline())["status"] == "Too Large."
    writer.close()
    await writer.wait_closed()


async def test_who_waits_for_a_100_gets_the_413_in_its_place(bench: Bench, process: ApiProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    head = f"POST /v1/api/job HTTP/1.1\r\nHost: api\r\nX-Auth-Token: {bench.token}\r\n"
    writer.write(f"{head}Content-Length: {31 * MIB}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


# --- Vault's rate limit ---------------------------------------------------------------------------------------------


@pytest.fixture
async def limited(nats: NatsProcess, bao_process: BaoProcess) -> AsyncIterator[Bench]:
    async with api(nats.url, bao_process.address, bao_process.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


@asynccontextmanager
async def quota(bench: Bench, path: str) -> AsyncIterator[None]:
    """Vault takes no more requests there during the block."""
    limit = {"path": path, "rate": 1, "interval": "600s"}
    await bench.admin(lambda client: client.adapter.post("/v1/sys/quotas/rate-limit/test", json=limit))
    with pytest.raises(VaultError):  # the one that is free
        await bench.vault.read("no-such-token", f"{path}/x")
    yield
    await bench.admin(lambda client: client.adapter.delete("/v1/sys/quotas/rate-limit/test"))


async def test_vaults_rate_limit_is_a_429_and_spends_nothing(limited: Bench) -> None:
    client = Client(limited)
    token = await limited.cubbyhole({"payload": SEALED})
    fields: dict[str, Any] = {"payload": "", "cubby_token": token, "cubby_path": "cubbyhole/job"}
    await limited.parts.session.token()
    for path in ("auth/token", "cubbyhole", "transit"):
        limited.clock.advance(10)
        async with quota(limited, path):
            answer = await (client.post(**fields) if path != "transit" else limited.submit())
            assert answer.status_code == 429, path
            assert answer.json() == {
                "status": "Too Many Requests.",
                "error": "Vault takes no more requests at the moment: its rate limit is reached.",
            }
    assert await client.pending() == 0
    assert await client.take(**fields)
