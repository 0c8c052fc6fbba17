"""Contract, section 0: a submission with an Idempotency-Key counts once."""

import secrets

from tests.api.client import JOB, Api, bad_request, new_queue, refused, shell, shell_job


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


async def test_a_retry_whose_cubbyhole_token_is_spent(api: Api) -> None:
    payload = shell_job("echo once")
    courier = await api.vault.courier({"payload": await api.vault.sealed(payload)})
    body = await api.envelope(qname=payload["qname"], cubby_token=courier, cubby_path="cubbyhole/job")
    name = key()
    job_id = await api.taken(body, idempotency_key=name)
    assert await api.taken(body, idempotency_key=name) == job_id
    assert (await api.ended(job_id))["output"] == "once\n"


async def test_another_callers_key_is_another_key_and_without_one_each_request_is_a_job(api: Api) -> None:
    name, body = key(), await api.plain(container_image="")
    tokens = [await api.vault.another_client() for _ in range(2)]
    ids = [await api.taken(body, idempotency_key=name, x_auth_token=token) for token in tokens]
    ids += [await api.taken(body), await api.taken(body)]
    assert len(set(ids)) == 4


async def test_a_key_that_is_none_and_two_of_them(api: Api) -> None:
    for names in ([""], ["x" * 256], ["tab\there"], ["\u00e9"], ["one", "two"]):
        headers = [(b"idempotency-key", name.encode()) for name in names]
        bad_request(await api.http.post(JOB, json=await api.plain(), headers=headers))
