"""Contract, section 0: a submission with an Idempotency-Key counts once."""

import secrets

from tests.api.client import JOB, Api, bad_request, new_queue, refused, shell


def key() -> str:
    return f"key {secrets.token_hex(6)}"


async def test_the_same_request_gives_the_same_job(api: Api) -> None:
    body, name = await api.plain("echo once"), key()
    first, second = [await api.post(body, idempotency_key=name) for _ in range(2)]
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    ended = await api.ended(first.json()["_id"])
    assert ended["output"] == "once\n"
    assert (await api.post(body, idempotency_key=name)).json()["_id"] == ended["_id"], "after its end too"
    assert (await api.listed(1, qname=body["qname"]))["data"][0]["_id"] == ended["_id"]


async def test_another_body_is_a_409(api: Api) -> None:
    body, name = await api.plain(), key()
    job_id = await api.taken(body, idempotency_key=name)
    assert await api.taken(dict(reversed(body.items())), idempotency_key=name) == job_id, "only in another order"
    for change in ({"run": shell("echo other")}, {"qname": new_queue()}, {"tty": True}):
        refused(await api.post({**body, **change}, idempotency_key=name), 409, "Conflict.")
    assert (await api.ended(job_id))["status"] == "success"


async def test_a_key_that_is_none(api: Api) -> None:
    for name in ("", "x" * 256, "tab\there", "\u00e9"):
        headers = [(b"idempotency-key", name.encode())]
        bad_request(await api.http.post(JOB, json=await api.plain(), headers=headers))
