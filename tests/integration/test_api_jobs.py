import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stint.core.codec import encode
from stint.core.events import KillRequested, Submitted
from stint.core.payload import parse_payload
from stint.core.subjects import EVENTS, event_filter, queue_token
from stint.jetstream import JetStreamEventLog
from stint.ports import Outcome
from stint.vault import open_ticket
from tests.support.api_bench import SEALED, Bench, api, secret
from tests.support.containers import OpenBao
from tests.support.events import ended, launched, started
from tests.support.servers import NatsProcess

ID = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


async def test_a_job_is_found_right_after_it_was_submitted(bench: Bench) -> None:
    answer = await bench.submit(qname="Deploys")
    assert answer.status_code == 200
    job_id = answer.json()["_id"]
    assert answer.json() == {"_id": job_id, "status": "queued", "qname": "deploys"}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.text.endswith("}\n")
    found = (await bench.http.get(f"/v1/api/job/{job_id.upper()}")).json()
    assert found.pop("submitted").endswith("Z")
    assert found == {
        "_id": job_id,
        "status": "queued",
        "node_uuid": "",
        "qname": "deploys",
        "container_image": "",
        "container_id": "",
        "started": "0001-01-01T00:00:00Z",
        "ended": "0001-01-01T00:00:00Z",
        "return_code": 0,
        "tty": False,
        "kill_requested": False,
        "held": False,
        "reason": "",
        "error": "",
        "submitted_by": "token-stint-client",
        "output_bytes": 0,
        "output_complete": True,
        "output_truncated": False,
        "output_masked": 0,
        "output": "",
        "stdout": "",
        "stderr": "",
    }


async def test_the_ticket_binds_the_payload_and_only_a_runner_opens_it(bench: Bench) -> None:
    wrapped = await bench.wrapped_secret_id()
    job_id = await bench.submitted(wrap_secret_id=wrapped, qname="Deploys")
    job = await bench.parts.log.load(job_id)
    assert job is not None
    event = job.fact(Submitted)
    assert event is not None
    assert wrapped not in encode(event).decode()
    ticket = await open_ticket(bench.vault, bench.root, event.ticket, queue_token=queue_token("deploys"), job_id=job_id)
    assert ticket.wrap_secret_id == wrapped
    assert ticket.payload_sha256 == hashlib.sha256(SEALED.encode()).hexdigest()
    assert ticket.wrap_expires_at == (await bench.vault.wrap_info(wrapped)).expires_at.isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
    assert await bench.parts.payloads.get(job.token, job_id, event.payload_chunks) == SEALED.encode()


async def test_a_plain_job_is_sealed_before_it_is_stored(bench: Bench) -> None:
    value = secret()
    job_id = await bench.submitted(
        payload="", container_image="busybox", RUN=["echo", value], env_vars=["A=1"], tty=True, status="success"
    )
    job = await bench.parts.log.load(job_id)
    assert job is not None
    event = job.fact(Submitted)
    assert event is not None
    assert (event.container_image, event.tty) == ("busybox", True)
    sealed = await bench.parts.payloads.get(job.token, job_id, event.payload_chunks)
    assert sealed.startswith(b"vault:v1:")
    opened = parse_payload(await bench.vault.decrypt(bench.root, "stint-job", sealed.decode()))
    assert (opened.qname, opened.run, opened.env_vars) == ("deploys", ("echo", value), ("A=1",))
    assert (await bench.http.get(f"/v1/api/job/{job_id}")).json()["status"] == "queued"


async def test_a_cubbyhole_is_read_once(bench: Bench) -> None:
    token = await bench.cubbyhole({"payload": SEALED})
    fields = {"payload": "", "cubby_token": token, "cubby_path": "cubbyhole/job"}
    job_id = await bench.submitted(**fields)
    job = await bench.parts.log.load(job_id)
    assert job is not None
    assert await bench.parts.payloads.get(job.token, job_id, 1) == SEALED.encode()
    again = await bench.submit(**fields)
    assert again.status_code == 500
    assert again.json()["status"] == "Internal Error."
    assert again.json()["error"].startswith(
        "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: Error making API request."
    )


@pytest.mark.parametrize("fields", [None, {"other": "x"}, {"payload": 7}])
async def test_a_cubbyhole_without_a_payload_is_an_error(bench: Bench, fields: dict[str, object] | None) -> None:
    token = await bench.cubbyhole(fields)
    answer = await bench.submit(payload="", cubby_token=token, cubby_path="cubbyhole/job")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole")
    assert token not in answer.text


@pytest.mark.parametrize("path", ["cubbyhole/../sys/x", "cubbyhole/job?x", "cubbyhole/job#x", "cubbyhole/%6aob"])
async def test_a_cubby_path_that_is_another_path_is_refused(bench: Bench, path: str) -> None:
    token = await bench.cubbyhole({"payload": SEALED})
    answer = await bench.submit(payload="", cubby_token=token, cubby_path=path)
    assert (answer.status_code, answer.json()["status"]) == (400, "Invalid job request.")


async def test_half_a_cubbyhole_is_no_cubbyhole(bench: Bench) -> None:
    job_id = await bench.submitted(cubby_token="t", cubby_path="", payload="", container_image="busybox")
    assert (await bench.http.get(f"/v1/api/job/{job_id}")).json()["container_image"] == "busybox"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "EOF"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"qname": "\xff"}', "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "JSON with more than 100 levels is not read."),
        (b'{"run": "echo"}', "Expected `array`, got `str` - at `$.run`"),
        (b'{"qname": 7}', "Expected `str`, got `int` - at `$.qname`"),
        (b'{"tty": "yes", "wrap_secret_id": "x"}', "Expected `bool`, got `str` - at `$.tty`"),
        (b'{"wrap_secret_id": "\\ud800"}', "not JSON"),
        (b'{"wrap_secret_id": "x", "qname": "a\\u0000"}', "A queue name contains no control characters."),
        (b'{"wrap_secret_id": "x", "qname": "\\ud800"}', "not JSON"),
        (b'{"wrap_secret_id": "x", "payload": "hello"}', "The payload is not a transit ciphertext."),
        (b"{}", "AppRole SecretID's Wrapping Token must be present in the job request"),
        (b'{"wrap_secret_id": ""}', "AppRole SecretID's Wrapping Token must be present in the job request"),
    ],
)
async def test_a_bad_body_is_a_400(bench: Bench, body: bytes, error: str) -> None:
    answer = await bench.http.post("/v1/api/job", content=body)
    assert answer.status_code == 400
    assert answer.json() == {"status": "Invalid job request.", "error": error}


async def test_a_body_is_json_whatever_its_content_type(bench: Bench) -> None:
    body = json.dumps({"Wrap_Secret_ID": "x", "payload": SEALED}) + "trailing"
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await bench.http.post("/v1/api/job", content=body, headers=form)
    assert answer.json()["qname"] == ""


async def test_too_large_a_body_is_refused_before_it_is_read(bench: Bench) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b'{"content": "'.ljust(1 << 20, b"x") if sent == 1 else b"x" * (1 << 20)

    answer = await bench.http.post("/v1/api/job", content=endless())
    assert (answer.status_code, answer.json()["status"]) == (413, "Too Large.")
    assert sent == 31
    lying = await bench.http.post("/v1/api/job", content=b"{}", headers={"content-length": str(1 << 40)})
    assert lying.status_code == 413


@pytest.mark.parametrize("job_id", ["xyz", "kill", "0" * 23, "g" * 24, "0" * 25])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/{}"), ("DELETE", "/{}"), ("GET", "/{}/events"), ("POST", "/kill/{}"), ("POST", "/{}/release")],
)
async def test_bad_ids(bench: Bench, method: str, path: str, job_id: str) -> None:
    answer = await bench.http.request(method, "/v1/api/job" + path.format(job_id))
    assert answer.status_code == 400
    assert answer.json() == {"status": "Invalid job request.", "error": "Invalid job ID (not ObjectIdHex)"}
    unknown = await bench.http.request(method, "/v1/api/job" + path.format(ID))
    assert unknown.status_code == 404
    assert unknown.json() == {"status": "Not Found.", "error": "not found"}


async def test_a_queued_job_can_be_killed(bench: Bench) -> None:
    job_id = await bench.submitted()
    killed = await bench.http.post(f"/v1/api/job/kill/{job_id}")
    assert killed.json() == {"_id": job_id, "container_id": "", "status": "queued", "kill_requested": True}
    job = (await bench.http.get(f"/v1/api/job/{job_id}")).json()
    assert (job["status"], job["reason"], job["output"], job["error"]) == (
        "failed",
        "killed",
        "job killed",
        "job killed",
    )
    assert job["kill_requested"] is True
    again = await bench.http.post(f"/v1/api/job/kill/{job_id}")
    assert again.json() == {"_id": job_id, "container_id": "", "status": "failed", "kill_requested": True}


async def test_a_kill_of_a_job_that_is_over_answers_what_is_stored(bench: Bench) -> None:
    job_id = await bench.submitted()
    await bench.parts.log.append(queue_token("deploys"), job_id, ended("failed"))
    killed = await bench.http.post(f"/v1/api/job/kill/{job_id}")
    assert killed.json() == {"_id": job_id, "container_id": "", "status": "failed", "kill_requested": False}
    assert (await bench.http.get(f"/v1/api/job/{job_id}")).json()["kill_requested"] is False


@pytest.mark.parametrize("meanwhile", ["ended", "launched"])
async def test_a_kill_is_decided_on_the_job_as_it_stands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Behind the end of a job there is no kill, and no other fact makes it miss."""
    job_id, log = await bench.submitted(), bench.parts.log
    append, token = log.append, queue_token("deploys")
    await append(token, job_id, started())
    first = launched() if meanwhile == "launched" else ended()

    async def overtaken(_log: object, *arguments: Any, **options: Any) -> Outcome:
        await append(token, job_id, first)
        return await append(*arguments, **options)

    monkeypatch.setattr(JetStreamEventLog, "append", overtaken)
    answer = await bench.http.post(f"/v1/api/job/kill/{job_id}")
    job = await log.load(job_id)
    assert job is not None
    told = (answer.status_code, answer.json()["status"], KillRequested.kind in job.facts)
    assert told == ((200, "running", True) if meanwhile == "launched" else (200, "success", False))
    records = await bench.broker.direct_get(EVENTS, {"multi_last": [event_filter("*", "*", job_id)]})
    assert len(records) == (4 if meanwhile == "launched" else 3)


async def test_a_deleted_job_is_gone(bench: Bench) -> None:
    job_id = await bench.submitted()
    assert (await bench.http.delete(f"/v1/api/job/{job_id}")).json() == {"_id": job_id}
    assert (await bench.http.get(f"/v1/api/job/{job_id}")).status_code == 404
    assert (await bench.http.delete(f"/v1/api/job/{job_id}")).status_code == 404


async def test_vaults_address_and_the_document_need_no_token(bench: Bench, openbao: OpenBao) -> None:
    async with bench.client() as stranger:
        info = await stranger.get("/v1/api/vault/info")
        assert info.json() == {"vault_addr": openbao.address, "vault_external_addr": openbao.address}
        document = await stranger.get("/v1/api/openapi.json")
        assert set(document.json()["paths"]) == {
            "/v1/api/job",
            "/v1/api/job/{job_id}",
            "/v1/api/job/{job_id}/events",
            "/v1/api/job/{job_id}/output",
            "/v1/api/job/{job_id}/release",
            "/v1/api/job/kill/{job_id}",
            "/v1/api/health",
            "/v1/api/vault/info",
            "/v1/api/metrics",
            "/login",
            "/healthz",
            "/readyz",
        }
        assert '"422"' not in document.text
        assert (await stranger.get("/healthz")).status_code == 200
        assert (await stranger.get("/readyz")).status_code == 200
