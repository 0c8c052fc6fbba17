"""Contract, section 2: the routes that need no token."""

import re

from tests.api.client import JOB, UNKNOWN_ID, Api, new_queue, refused
from tests.support.waiting import until

STATES = ["queued", "running", "notauthorised", "stopping", "success", "failed", "unknown"]
NUMBERS = [
    "all_jobs",
    *(f"{state}_jobs" for state in STATES),
    "unserved_jobs",
    *("containers", "containers_running", "containers_paused", "containers_stopped", "images", "mem_total"),
]
KEYS = ["state", *NUMBERS, "architecture", "operating_system"]


async def test_all_values_are_strings(api: Api) -> None:
    await api.run()  # the image is on the engine from then on, whichever test comes first
    body = await until(lambda: _health(api), lambda body: int(body["images"]) > 0, seconds=30)
    assert set(body) == set(KEYS)
    assert all(isinstance(value, str) for value in body.values())
    assert all(body[name].isdecimal() for name in NUMBERS)
    assert body["state"] == "active"
    assert int(body["mem_total"]) > 0
    assert body["architecture"]
    assert body["operating_system"]
    for key in KEYS:
        answer = await api.http.get("/v1/api/health", params={"k": key})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "\n" not in answer.text
        assert re.fullmatch(r"\d+", answer.text) if key in NUMBERS else answer.text


async def _health(api: Api) -> dict[str, str]:
    body: dict[str, str] = (await api.http.get("/v1/api/health")).json()
    return body


async def test_an_unknown_key(api: Api) -> None:
    for key in ("", "junk", "STATE", "state ", "a&k=state"):
        answer = await api.http.get("/v1/api/health", params={"k": key})
        assert refused(answer, 400, "Invalid request.") == "Invalid health metric key"


async def test_jobs_are_counted_by_status(api: Api) -> None:
    before = (await api.http.get("/v1/api/health")).json()
    for fields in ({}, {"container_image": ""}, {"wrap_secret_id": "junk"}):
        job = await api.run(**fields)
        await api.listed(1, qname=job["qname"], status=job["status"])
    after = (await api.http.get("/v1/api/health")).json()
    for name in ("success_jobs", "failed_jobs", "notauthorised_jobs"):
        assert int(after[name]) >= int(before[name]) + 1
    assert int(after["all_jobs"]) >= int(before["all_jobs"]) + 3


async def test_running_and_queued_jobs_are_counted(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        await api.submit(qname=qname)
        await api.listed(1, qname=qname, status="queued")
        await api.listed(1, qname=qname, status="running")
        body = (await api.http.get("/v1/api/health")).json()
        assert int(body["running_jobs"]) >= 1
        assert int(body["queued_jobs"]) >= 1
        assert sum(int(body[f"{state}_jobs"]) for state in STATES) == int(body["all_jobs"])


async def test_where_vault_is_and_login_leads_home(api: Api) -> None:
    body = (await api.http.get("/v1/api/vault/info")).json()
    assert set(body) == {"vault_addr", "vault_external_addr"}
    assert body["vault_addr"] == api.env["VAULT_ADDR"]
    assert body["vault_external_addr"]
    answer = await api.http.get("/login?next=x")
    assert (answer.status_code, answer.headers["location"]) == (301, "/")


async def test_metrics(api: Api) -> None:
    await api.http.get(f"{JOB}/{UNKNOWN_ID}")
    await api.http.get("/no/such/path")
    answer = await api.http.get("/v1/api/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if line.startswith("gostint_request_duration_seconds")]
    assert lines
    assert all('service="gostint"' in line for line in lines)
    labels = {
        name: set(re.findall(rf'{name}="([^"]*)"', "\n".join(lines))) for name in ("code", "method", "path", "le")
    }
    assert {"200", "404"} <= labels["code"]
    assert {"GET", "POST"} <= {method.upper() for method in labels["method"]}
    assert not any(UNKNOWN_ID in path or "such" in path for path in labels["path"]), "route templates only"
    assert {"0.005", "0.1", "10.0", "+Inf"} <= labels["le"] | {f"{float(le):.1f}" for le in labels["le"]}
    assert "process_cpu_seconds_total" in answer.text
