import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NoReturn

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from stint.core.codec import encode
from stint.core.errors import VaultDeniedError
from stint.core.names.streams import RUNNERS_BUCKET, kv_stream
from stint.jetstream.streams import topology
from stint.process import background, waiting
from stint_api.app import create_app
from stint_api.read.listing.index import ListIndex
from stint_api.submit.key_sweeper import KeySweeper
from tests.support.api_bench import BODY, Bench, api, secret
from tests.support.servers import NatsProcess, OpenBao
from tests.support.views import job_view
from tests.support.waiting import until

DURATION = "gostint_request_duration_seconds"
METRICS = "/v1/api/metrics"
JOB = "/v1/api/job/{job_id}"


@pytest.fixture
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao) as bench:
        yield bench


async def scraped(bench: Bench) -> str:
    async with bench.client() as stranger:
        answer = await stranger.get(METRICS)
    assert answer.status_code == 200
    return answer.text


async def counts(bench: Bench) -> dict[tuple[str, str, str], int]:
    """Answers so far, by code, method and path. The scrape itself is not among them yet."""
    return {
        (sample.labels["code"], sample.labels["method"], sample.labels["path"]): int(sample.value)
        for family in text_string_to_metric_families(await scraped(bench))
        for sample in family.samples
        if sample.name == f"{DURATION}_count"
    }


async def values(bench: Bench) -> dict[str, float]:
    """Each sample by its name and its labels."""
    families = text_string_to_metric_families(await scraped(bench))
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in families
        for sample in family.samples
    }


async def test_each_answer_is_counted_by_its_routes_template(bench: Bench) -> None:
    """Refusals before any route too."""
    job_id = await bench.submitted()
    for path in ("", "/events", "/no-such-thing"):
        await bench.http.get(f"/v1/api/job/{job_id}x{path}")
    await bench.http.get(f"/v1/api/job/{job_id}")
    await bench.http.post(f"/v1/api/job/kill/{job_id}")
    await bench.http.delete(f"/v1/api/job/{job_id}")
    await bench.http.get("/login")
    async with bench.client() as stranger:
        await stranger.get("/v1/api/job")
        await stranger.get(f"/v1/api/job/{'0' * 24}", headers={"X-Auth-Token": "unknown"})
        await stranger.post("/v1/api/job/")
        await stranger.post("/v1/api/health")
    assert await counts(bench) == {
        ("200", "POST", "/v1/api/job"): 1,
        ("400", "GET", JOB): 1,
        ("400", "GET", f"{JOB}/events"): 1,
        ("404", "GET", "unknown"): 1,
        ("200", "GET", JOB): 1,
        ("200", "POST", "/v1/api/job/kill/{job_id}"): 1,
        ("200", "DELETE", JOB): 1,
        ("301", "GET", "/login"): 1,
        ("400", "GET", "/v1/api/job"): 1,
        ("403", "GET", JOB): 1,
        ("301", "POST", "unknown"): 1,
        ("405", "POST", "/v1/api/health"): 1,
    }
    assert (await counts(bench))["200", "GET", METRICS] == 1


async def test_clients_cannot_make_label_values(bench: Bench) -> None:
    token, path, method = secret(), secret(), secret()
    async with bench.client({"X-Auth-Token": token}) as stranger:
        for number in range(20):
            await stranger.request(f"{method}{number}", f"/{path}{number}?k={secret()}")
            await stranger.get(f"/v1/api/job/{path}{number}")
    text = await scraped(bench)
    assert [word for word in ("sEcReT", bench.token) if word in text] == []
    seen = {("404", "other", "unknown"): 20, ("403", "GET", JOB): 20, ("200", "GET", METRICS): 1}
    assert await counts(bench) == seen


async def test_a_stream_counts_when_it_ends(bench: Bench) -> None:
    job_id = await bench.submitted()
    path, label = f"/v1/api/job/{job_id}/events", ("200", "GET", f"{JOB}/events")
    begun = asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):
            begun.set()

    async def receive() -> Message:
        """A client that never leaves."""
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    headers = [(b"x-auth-token", bench.token.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    streaming = asyncio.ensure_future(bench.app(scope, receive, send))
    await begun.wait()
    assert label not in await counts(bench)
    await bench.http.post(f"/v1/api/job/kill/{job_id}")
    await streaming
    assert (await counts(bench))[label] == 1


async def test_an_error_that_escapes_is_a_500(bench: Bench) -> None:
    def broken() -> str:
        raise RuntimeError("broken")

    app = create_app(replace(bench.parts, new_job_id=broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=bench.http.headers) as http:
        answer = await http.post("/v1/api/job", json=BODY)
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        assert answer.headers["content-type"].startswith("text/plain")
        text = (await http.get(METRICS)).text
    assert 'code="500",method="POST",path="/v1/api/job",service="gostint"' in text


async def test_jobs_and_queues_and_views_that_cannot_be_read_are_counted(
    bench: Bench, nats: NatsProcess, openbao: OpenBao
) -> None:
    before = await values(bench)
    for number, junk in ((34, b"junk"), (35, encode(msgspec.structs.replace(job_view(35), ended="yesterday")))):
        await bench.broker.publish(f"$KV.jobs.{number:024x}", junk)
    for number, (qname, status) in enumerate([("a", "queued"), ("a", "running"), ("b", "queued"), ("c", "failed")]):
        await bench.put_view(job_view(number, qname=f"metrics-{qname}", status=status, held=status == "running"))
    async with api(nats.url, openbao) as later:
        after = await values(later)
    grown = {name: after[name] - before[name] for name in after if name.startswith("stint_")}
    assert {name: value for name, value in grown.items() if value} == {
        "stint_jobs['queued']": 2,
        "stint_jobs['running']": 1,
        "stint_jobs['failed']": 1,
        "stint_queues[]": 2,
        "stint_held_jobs[]": 1,
        "stint_unreadable_views[]": 2,
        "stint_unserved_jobs[]": 2,
    }


async def test_a_task_that_fails_each_time_is_counted_and_the_api_is_ready_all_the_same(
    nats: NatsProcess, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(_sweeper: KeySweeper) -> NoReturn:
        raise VaultDeniedError

    monkeypatch.setattr(waiting, "RETRY_PAUSE", 0.05)
    monkeypatch.setattr(background, "FAILING", 1.0)
    monkeypatch.setattr(KeySweeper, "sweep", denied)
    async with api(nats.url, openbao) as bench:
        await until(lambda: values(bench), lambda found: found["stint_failing_tasks[]"] == 1)
        answer = await until(lambda: bench.http.get("/readyz"), lambda answer: answer.text != "ready\n")
        assert (answer.status_code, answer.text) == (200, "ready\nKeys of payloads are not destroyed.\n")


async def test_it_answers_while_nats_is_away(nats_process: NatsProcess, openbao: OpenBao) -> None:
    async with api(nats_process.url, openbao) as bench:
        await nats_process.kill()
        assert "stint_jobs{" in await scraped(bench)
        never = ListIndex(
            bench.views, connected=bench.broker.wait_connected, retention=bench.parts.retention, now=bench.parts.now
        )
        async with bench.another(index=never) as http:
            text = (await http.get(METRICS)).text
        assert "process_cpu_seconds_total" in text
        assert "stint_jobs{" not in text


async def test_it_and_a_waiting_job_are_shown_while_the_runners_are_not_known(
    nats_process: NatsProcess, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "CHECK_INTERVAL", 1000.0)  # or the bucket would be there again
    async with api(nats_process.url, openbao) as bench:
        job_id = await bench.submitted()
        await bench.broker.api(f"STREAM.DELETE.{kv_stream(RUNNERS_BUCKET)}")
        runners = await bench.http.get("/v1/api/runner")
        assert (runners.status_code, runners.json()["error"]) == (503, "NATS: stream not found (10059).")
        text = await scraped(bench)
        assert "stint_jobs{" in text
        assert "stint_unserved_jobs" not in text
        job = (await bench.http.get(f"/v1/api/job/{job_id}")).json()
        assert (job["status"], job["waits_for"]) == ("queued", "")
