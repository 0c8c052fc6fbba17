"""Contract, section 1: every job route needs a token that Vault knows. Section 0: policies say what it may do."""

import asyncio

import httpx
import pytest

from tests.api.client import JOB, UNKNOWN_ID, Api, new_queue, refused
from tests.support.waiting import until

ROUTES = [
    ("GET", JOB),
    ("POST", JOB),
    ("GET", f"{JOB}/{UNKNOWN_ID}"),
    ("DELETE", f"{JOB}/{UNKNOWN_ID}"),
    ("POST", f"{JOB}/kill/{UNKNOWN_ID}"),
    ("POST", f"{JOB}/{UNKNOWN_ID}/release"),
    ("GET", f"{JOB}/{UNKNOWN_ID}/output"),
    ("GET", f"{JOB}/{UNKNOWN_ID}/events"),
]


def denied(answer: httpx.Response) -> str:
    error = refused(answer, 403, "Permission Denied.")
    assert error.startswith("Error making API request.")
    assert "Code: 403. Errors:" in error
    assert error.endswith("* permission denied")
    assert "://" not in error
    return error


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_token_is_needed_and_one_that_is_known(api: Api, method: str, path: str) -> None:
    async with api.anonymous() as http:
        answer = await http.request(method, path)
        assert refused(answer, 400, "Invalid request.") == "Missing X-Auth-Token"
        for token in ("", "hvs.unknown"):
            denied(await http.request(method, path, headers={"X-Auth-Token": token}))


async def test_with_something_that_is_no_token_or_a_revoked_one(api: Api) -> None:
    revoked = await api.vault.token()
    await api.vault.revoke(revoked)
    async with api.anonymous() as http:
        for token in ("not a token", "x" * 4000, "../secret", "{}", revoked):
            denied(await http.get(JOB, headers={"X-Auth-Token": token}))
        authorization = {"Authorization": f"Bearer {api.vault.client}"}
        refused(await http.get(JOB, headers=authorization), 400, "Invalid request.")


async def test_a_revoked_token_that_was_good_a_moment_ago(api: Api) -> None:
    token = await api.vault.token()
    async with api.anonymous(**{"X-Auth-Token": token}) as http, asyncio.timeout(20):
        assert (await http.get(JOB)).status_code == 200
        await api.vault.revoke(token)
        # A look-up counts for five seconds.
        answer = await until(lambda: http.get(JOB), lambda answer: answer.status_code != 200)
    denied(answer)


async def test_a_request_costs_one_use_of_a_limited_token(api: Api) -> None:
    token = await api.vault.token(num_uses=3)
    async with api.anonymous(**{"X-Auth-Token": token}) as http:
        assert (await http.get(JOB)).status_code == 200
        assert await api.vault.uses_left(token) == 2
        assert (await http.get(f"{JOB}/{UNKNOWN_ID}")).status_code == 404
        assert await api.vault.uses_left(token) == 1
        assert (await http.post(JOB, content=b"")).status_code == 400
        denied(await http.get(JOB))


async def test_a_token_without_a_policy_may_do_nothing(api: Api) -> None:
    token, qname = await api.vault.token(), new_queue()
    job_id = await api.submit(qname=qname)
    await api.ended(job_id)
    async with api.anonymous(**{"X-Auth-Token": token}) as http:
        attempts = {
            "create": http.post(JOB, json={"qname": qname, "container_image": "busybox"}),
            "read": http.get(f"{JOB}/{job_id}"),
            "update": http.post(f"{JOB}/kill/{job_id}"),
            "delete": http.delete(f"{JOB}/{job_id}"),
        }
        for capability, attempt in attempts.items():
            error = refused(await attempt, 403, "Permission Denied.")
            assert f'"{capability}" on "stint/queue/{qname}"' in error
        error = refused(await http.post(f"{JOB}/{job_id}/release"), 403, "Permission Denied.")
        assert f'"update" on "stint/release/{qname}"' in error
        assert (await http.get(JOB, params={"qname": qname})).json()["total"] == 0


@pytest.mark.parametrize("path", ["/v1/api/health", "/v1/api/vault/info", "/v1/api/metrics", "/login"])
async def test_the_open_routes_need_no_token(api: Api, path: str) -> None:
    async with api.anonymous() as http:
        for headers in ({}, {"X-Auth-Token": "junk"}):
            assert (await http.get(path, headers=headers)).status_code in {200, 301}
