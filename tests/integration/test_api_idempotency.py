from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from stint.core.codec import encode
from stint.core.subjects import PAYLOADS, queue_token
from stint.ports import Outcome
from stint_api.app import create_app, utc_now
from stint_api.auth.authenticator import Identity
from stint_api.submit.body import parse_submission
from stint_api.submit.idempotency import mark
from tests.support import events
from tests.support.api_bench import SEALED, Bench, api, secret
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess
from tests.support.submissions import Client, in_cubbyhole, messages, stored, submitted

TAKEN = ("Conflict.", "The Idempotency-Key was used for another request.")


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


# --- Idempotency-Key ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"payload": "", "container_image": "busybox", "run": ["true"]}])
async def test_a_repeat_gets_the_same_job(bench: Bench, fields: dict[str, Any]) -> None:
    client = Client(bench)
    job_id = await client.take(**fields)
    assert await client.take(**fields) == job_id
    assert await client.take(**fields, QNAME=client.qname.upper(), unknown=1) == job_id
    assert await client.pending() == 1
    job = await client.job(job_id)
    await stored(bench, job)
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == submitted(job).payload_chunks
    assert (await bench.http.get(f"/v1/api/job/{job_id}")).json()["status"] == "queued"


async def test_another_body_is_a_conflict(bench: Bench) -> None:
    client = Client(bench)
    await client.take()
    for fields in ({"wrap_secret_id": "another"}, {"tty": True}, {"payload": SEALED + "AA"}, {"qname": secret()}):
        answer = await client.post(**fields)
        assert answer.status_code == 409
        assert (answer.json()["status"], answer.json()["error"]) == TAKEN
    assert await client.pending() == 1


async def test_without_a_key_and_with_another_each_request_is_a_job(bench: Bench) -> None:
    assert await bench.submitted() != await bench.submitted()
    client = Client(bench)
    assert await client.take() != await replace(client, key=secret()).take()
    assert await client.pending() == 2


async def test_a_caller_is_an_identity_or_else_a_token(bench: Bench) -> None:
    client = Client(bench)
    role = secret()
    await bench.admin(lambda c: c.auth.approle.create_or_update_approle(role, token_policies=["stint-client"]))
    role_id = (await bench.admin(lambda c: c.auth.approle.read_role_id(role)))["data"]["role_id"]

    async def logged_in() -> str:
        found = await bench.admin(lambda c: c.auth.approle.generate_secret_id(role))
        return (await bench.vault.login(role_id, found["data"]["secret_id"])).token

    async def batch() -> str:
        body = {"policies": ["stint-client"], "ttl": "5m", "type": "batch"}
        found = await bench.admin(lambda c: c.adapter.post("/v1/auth/token/create", json=body))
        return str(found["auth"]["client_token"])

    async def job_of(token: str) -> str:
        async with bench.client({"X-Auth-Token": token}) as http:
            job_id = await client.take(http)
            assert await client.take(http) == job_id
            return job_id

    one, two = [await job_of(await logged_in()) for _ in range(2)]
    assert one == two
    another = await bench.limited_token(0, ("stint-client",))
    others = [await job_of(token) for token in (bench.token, bench.root, another, await batch())]
    assert len({one, *others}) == 5


async def test_a_repeat_does_not_need_the_cubbyhole_again(bench: Bench) -> None:
    client = Client(bench)
    fields = await in_cubbyhole(bench)
    job_id = await client.take(**fields)
    assert await client.take(**fields) == job_id
    assert (await stored(bench, await client.job(job_id)))[0] == SEALED.encode()


async def test_a_spent_cubbyhole_is_an_alarm_with_a_key_too(bench: Bench) -> None:
    client = Client(bench)
    fields = await in_cubbyhole(bench)
    assert (await bench.submit(**fields)).status_code == 200
    answer = await client.post(**fields)
    assert (answer.status_code, answer.json()["error"].split("!!!")[0]) == (500, "POSSIBLE SECURITY/INTERCEPTION ALERT")
    assert await client.pending() == 0


@pytest.mark.parametrize("end", ["killed", "ended", "deleted", "both"])
async def test_a_repeat_never_revives_a_job(bench: Bench, end: str) -> None:
    client = Client(bench)
    job_id = await client.take()
    job = await client.job(job_id)
    if end == "ended":
        for event in (events.started(), events.ended("failed", "exit_code", 3)):
            assert await bench.parts.log.append(job.token, job_id, event) is Outcome.WON
    if end in {"killed", "both"}:
        assert (await bench.http.post(f"/v1/api/job/kill/{job_id}")).status_code == 200
    if end in {"deleted", "both"}:
        assert (await bench.http.delete(f"/v1/api/job/{job_id}")).status_code == 200
    before = await client.job(job_id)
    if end in {"deleted", "both"}:
        await is_gone(client, job_id, "was deleted")
    else:
        assert await client.take() == job_id
    assert (await client.post(tty=True)).status_code == 409
    assert await client.job(job_id) == before
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == (0 if end in {"deleted", "both"} else 1)


async def test_a_repeat_of_a_job_that_is_no_longer_kept_is_told_so(bench: Bench) -> None:
    client = Client(bench)
    job_id = await client.take()
    assert (await bench.http.post(f"/v1/api/job/kill/{job_id}")).status_code == 200
    late = replace(bench.parts, now=lambda: utc_now() + bench.parts.retention)
    transport = httpx.ASGITransport(create_app(late))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=bench.http.headers) as http:
        assert (await http.get(f"/v1/api/job/{job_id}")).status_code == 404
        await is_gone(client, job_id, "is over, and no longer kept", http)


async def is_gone(client: Client, job_id: str, fate: str, http: httpx.AsyncClient | None = None) -> None:
    """Not 200 `queued`: there is no such job for anybody who looks."""
    answer = await client.post(http)
    sentence = f"The job of this Idempotency-Key, {job_id}, {fate}."
    assert (answer.status_code, answer.json()) == (410, {"status": "Gone.", "error": sentence, "_id": job_id})


async def test_a_stranger_who_comes_later_under_another_queue_changes_nothing(bench: Bench) -> None:
    client = Client(bench)
    job_id = await client.take()
    assert await bench.parts.log.append(queue_token("else"), job_id, events.submitted("else")) is Outcome.WON
    assert await client.take() == job_id


@pytest.mark.parametrize("body", [b"no event", b"{}", encode(events.submitted("x"))])
async def test_one_who_was_there_first_is_a_conflict(bench: Bench, body: bytes) -> None:
    """Whoever may publish submissions straight to NATS can take an id, and never passes for the caller."""
    client = Client(bench)
    submission = parse_submission(b'{"qname": "%b", "wrap_secret_id": "x"}' % client.qname.encode())
    caller = await bench.vault.lookup_self(bench.token)
    known = mark(Identity("", "", f"accessor {caller.accessor}"), client.key, submission)
    await bench.broker.publish(f"ev.submitted.{queue_token(client.qname)}.{known.job_id}", body)
    assert (await client.post()).status_code == 409
    assert await messages(bench, PAYLOADS, f"pl.*.{known.job_id}.*") == 0


@pytest.mark.parametrize("key", ["", "a" * 256, "\u00e9", "a\tb", "a\x7fb", "\u2028"])
async def test_a_key_is_printable_ascii(bench: Bench, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]
    answer = await bench.http.post("/v1/api/job", json={"wrap_secret_id": "x", "payload": SEALED}, headers=headers)
    assert answer.status_code == 400
    assert answer.json() == {
        "status": "Invalid job request.",
        "error": "The Idempotency-Key is not 1 to 255 printable ASCII characters.",
    }


async def test_two_keys_are_none_and_a_long_one_is_one(bench: Bench) -> None:
    body = {"wrap_secret_id": "x", "payload": SEALED, "qname": secret()}
    twice = [("Idempotency-Key", secret()), ("Idempotency-Key", secret())]
    assert (await bench.http.post("/v1/api/job", json=body, headers=twice)).status_code == 400
    client = Client(bench, key=f"{secret():~<255}"[:200] + " a b " + "~" * 50)
    assert len(client.key) == 255
    assert await client.take() == await client.take()


async def test_the_frame_keeps_caller_and_key_apart() -> None:
    submission = parse_submission(b'{"wrap_secret_id": "x"}')
    pairs = [("a b", "c"), ("a", "b c"), ("a b c", ""), ("1 a", "b c"), ("", "a b c")]
    assert len({mark(Identity("", "", caller), key, submission).job_id for caller, key in pairs}) == len(pairs)
