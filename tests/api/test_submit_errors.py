"""Contract, section 2, submit: every row of its errors."""

import json
from typing import Any

import pytest

from tests.api.client import JOB, Api, bad_request, new_queue, refused

ALERT = "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: "


async def queued(api: Api, qname: str) -> int:
    """How many jobs the queue has, once the list has caught up."""
    marker = await api.run(qname=qname)
    body = await api.listed(1, qname=qname)
    assert body["data"][0]["_id"] == marker["_id"]
    return int(body["total"]) - 1


BODIES = [b"{", b"nonsense", b"[]", b'"text"', b"1", b"null", b"true", b'{"qname": "a" "b"}', b"\xff\xfe", b"{'a': 1}"]
BODIES += [b'{"qname": ' + b"[" * 100_000, b'{"qname": 1e99999999999', b"-", b'{"a": NaN']


async def test_a_body_that_is_empty_or_no_json_object(api: Api) -> None:
    for body in (b"", b" \n"):
        assert "EOF" in bad_request(await api.post(body))
    for body in BODIES:
        assert bad_request(await api.post(body)), body[:20]


async def test_a_field_of_the_wrong_type(api: Api) -> None:
    body, wrong = await api.plain(), [("secret_file_type", True), ("run", [1]), ("env_vars", {"A": "1"}), ("tty", 1)]
    wrong += [(name, 1) for name in ("qname", "wrap_secret_id", "cubby_token", "cubby_path", "payload", "on_lost")]
    wrong += [(name, ["x"]) for name in ("container_image", "image_pull_policy", "content", "working_directory")]
    wrong += [(name, "x") for name in ("entrypoint", "run", "env_vars", "secret_refs", "tty", "cont_on_warnings")]
    wrong += [("timeout", "soon"), ("mask_secrets", "yes"), ("expose_vault_token", 1)]
    for field, value in wrong:
        assert bad_request(await api.post({**body, field: value})), field


async def test_without_a_wrapping_token(api: Api) -> None:
    for wrap in ({}, {"wrap_secret_id": ""}, {"wrap_secret_id": None}):
        error = bad_request(await api.post({"qname": new_queue(), "container_image": "busybox", **wrap}))
        assert error == "AppRole SecretID's Wrapping Token must be present in the job request"


async def test_a_name_that_no_queue_has(api: Api) -> None:
    for qname in ("a\0b", "a\nb", "\x1b", "\x7f", "\x85", "x" * 1001, "é" * 501, "\ud800"):
        assert bad_request(await api.post(await api.plain(qname=qname)))


@pytest.mark.parametrize(
    "path",
    ["cubbyhole/../cubbyhole/job", "..", "cubbyhole/job?x=1", "cubbyhole/job#x", "cubbyhole%2fjob", "cubbyhole/a%"],
)
async def test_a_cubbyhole_path_that_could_lead_elsewhere(api: Api, path: str) -> None:
    courier = await api.vault.courier({"payload": await api.vault.sealed({})})
    bad_request(await api.post(await api.envelope(cubby_token=courier, cubby_path=path)))
    assert await api.vault.uses_left(courier) == 1, "the cubbyhole was not touched"


async def test_a_cubbyhole_token_that_was_used_up(api: Api) -> None:
    """Somebody else has read it: the requestor must hear that, and nothing may run."""
    courier, qname = await api.vault.courier({"payload": await api.vault.sealed({})}), new_queue()
    await api.vault.call(courier, "GET", "cubbyhole/job")
    body = await api.envelope(qname=qname, cubby_token=courier, cubby_path="cubbyhole/job")
    assert refused(await api.post(body), 500, "Internal Error.").startswith(ALERT)
    assert await queued(api, qname) == 0


async def test_a_cubbyhole_token_that_does_not_read_the_path(api: Api) -> None:
    """It was revoked, or is unknown, or may not."""
    courier = await api.vault.courier({"payload": await api.vault.sealed({})})
    revoked = await api.vault.courier({"payload": await api.vault.sealed({})})
    await api.vault.revoke(revoked)
    for token, path in ((revoked, "cubbyhole/job"), ("hvs.unknown", "cubbyhole/job"), (courier, "kv/data/demo")):
        body = await api.envelope(cubby_token=token, cubby_path=path)
        assert refused(await api.post(body), 500, "Internal Error.").startswith(ALERT)


async def test_a_cubbyhole_without_a_payload_and_with_nothing_at_the_path(api: Api) -> None:
    job, wrong = "cubbyhole/job", [{"other": "x"}, {"payload": 5}, {"payload": ["x"]}, {"payload": None}]
    for data, path in (*((data, job) for data in wrong), ({"payload": "x"}, "cubbyhole/elsewhere")):
        body = await api.envelope(cubby_token=await api.vault.courier(data), cubby_path=path)
        assert refused(await api.post(body), 500, "Internal Error.")


async def test_a_limit_that_makes_no_sense(api: Api) -> None:
    limits: list[tuple[str, Any]] = [
        ("timeout", -1),
        ("cpus", -0.5),
        ("memory", "lots"),
        ("memory", -1),
        ("memory", 1024),
        ("pids", -1),
    ]
    for name, value in (*limits, ("network", "host"), ("network", "container:x"), ("on_lost", "sometimes")):
        assert name in bad_request(await api.post(await api.plain(**{name: value})))


async def test_an_error_never_shows_the_request(api: Api) -> None:
    body = {**await api.plain(env_vars=["PASSWORD=hush-hush"]), "run": "not-a-list hush-hush"}
    for answer in (await api.post(body), await api.post(json.dumps(body).encode()[:-1])):
        bad_request(answer)
        assert "hush" not in answer.text
        assert body["wrap_secret_id"] not in answer.text


async def test_a_wrong_method_or_path_takes_no_job(api: Api) -> None:
    body = await api.plain()
    assert (await api.http.put(JOB, json=body)).status_code == 405
    assert (await api.http.post(f"{JOB}/{'0' * 24}", json=body)).status_code == 405
    assert await queued(api, body["qname"]) == 0
