"""Section 0, "Further routes": running a job again."""

import pytest

from tests.api.client import JOB, Api, bad_request, new_queue, refused, shell


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_job_runs_again_with_a_fresh_wrapping_token(keeping: Api, sealed: bool) -> None:
    qname, job = new_queue(), {"container_image": "busybox", "run": shell("echo $A"), "env_vars": ["A=again"]}
    body = (
        await keeping.sealed({**job, "qname": qname}) if sealed else await keeping.envelope(**{**job, "qname": qname})
    )
    first = await keeping.ended(await keeping.taken(body))
    assert (first["output"], first["rerun_of"]) == ("again\n", "")
    answer = await keeping.http.post(
        f"{JOB}/{first['_id']}/rerun", json={"wrap_secret_id": await keeping.vault.wrapped()}
    )
    assert answer.status_code == 200, answer.text
    second = await keeping.ended(answer.json()["_id"])
    assert (second["output"], second["qname"], second["rerun_of"]) == ("again\n", qname, first["_id"])
    used = await keeping.http.post(f"{JOB}/{first['_id']}/rerun", json={"wrap_secret_id": body["wrap_secret_id"]})
    assert (await keeping.ended(used.json()["_id"]))["status"] == "notauthorised"


async def test_only_with_a_token_of_a_job_that_is_over(keeping: Api) -> None:
    async with keeping.busy(new_queue()) as running:
        bad_request(await keeping.http.post(f"{JOB}/{running}/rerun", json={"wrap_secret_id": "x"}))
    bad_request(await keeping.http.post(f"{JOB}/{running}/rerun", json={}))
    async with keeping.anonymous() as http:
        refused(await http.post(f"{JOB}/{running}/rerun", json={"wrap_secret_id": "x"}), 400, "Invalid request.")
