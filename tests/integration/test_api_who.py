"""Whose doing it was: in the facts, and in the access log."""

import httpx
import pytest

from stint.core.events import Deleted, Ended, KillRequested, Submitted
from stint.vault import Vault
from stint_api.read.job.live import fact
from tests.support.api_bench import Api, ApiProcess, Bench, secret, submitted
from tests.support.servers import OpenBao
from tests.support.waiting import until_true


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"STINT_COMPAT": "gostint"}


async def test_facts_tell_apart_who_has_the_same_display_name(bench: Bench) -> None:
    found = []
    for _ in range(2):
        token = await bench.logged_in(await bench.role_with("stint-client"))
        caller = await bench.vault.lookup_self(token)
        async with bench.client({"X-Auth-Token": token}) as http:
            job_id = await submitted(http)
            await http.post(f"/v1/api/job/kill/{job_id}")
            await http.delete(f"/v1/api/job/{job_id}")
        job = await bench.load(job_id)
        facts = [job.fact(shape) for shape in (Submitted, KillRequested, Ended, Deleted)]
        wanted = ("approle", caller.entity_id, caller.accessor)
        assert [(one.by, one.by_entity, one.by_accessor) for one in facts if one] == [wanted] * 4
        shown = fact(job.facts[Submitted.kind], job.state)
        assert (shown["by"], shown["by_entity"], shown["by_accessor"]) == wanted
        found.append((caller.entity_id, caller.accessor))
    assert all(found[0])
    assert len({*found[0], *found[1]}) == 4


async def lines_up_to_the_submission(process: ApiProcess) -> int:
    """A line is written when the answer is through, which may be after the client has it.

    Before this one stand those of the probes that failed while the API started.
    """
    await until_true(lambda: any(line["method"] == "POST" for line in process.said("request")))
    return next(number for number, line in enumerate(process.said("request"), 1) if line["method"] == "POST")


async def test_each_request_is_one_line_without_what_a_client_wrote(own: Api, openbao: OpenBao) -> None:
    process, http = own
    token = http.headers["X-Auth-Token"]
    accessor = (await Vault(openbao.address).call(token, lambda c: c.auth.token.lookup_self()))["data"]["accessor"]
    hidden = [token, secret(), secret(), secret()]
    job_id = await submitted(http)
    before = await lines_up_to_the_submission(process)
    await http.get(f"/v1/api/job/{job_id}", params={"x": hidden[1]})
    await http.get("/v1/api/job", headers={"X-Auth-Token": hidden[2]})
    await http.get(f"/{hidden[3]}")
    await http.get("/v1/api/health/")
    await http.get("/healthz")
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as stranger:
        await stranger.get("/v1/api/health")
    await until_true(lambda: len(process.said("request")) >= before + 5)
    found = process.said("request")[before:]
    shown = [(line["method"], line["route"], line["status"], line["who"]) for line in found]
    assert shown == [
        ("GET", "/v1/api/job/{job_id}", 200, "token-stint-client"),
        ("GET", "/v1/api/job", 403, ""),
        ("GET", "unknown", 404, ""),
        ("GET", "unknown", 301, ""),
        ("GET", "/v1/api/health", 200, ""),
    ]
    assert (found[0]["accessor"], found[0]["entity"]) == (accessor, "")
    assert all(line["ms"] >= 0 for line in found)
    assert [text for text in hidden if text in process.log] == []
