"""What only an app of the test's own can show of its answers. The contract itself is checked in `tests/api`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.types import Message

from stint.core.errors import BrokerUnavailableError
from stint.core.events import KillRequested
from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import event_filter
from stint.jetstream import JetStreamEventLog
from stint.ports import Outcome
from tests.support.api_bench import Bench
from tests.support.events import ended, launched, started

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "INVENTED")
JOB = "/v1/api/job"


@pytest.fixture
async def stranger(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with bench.client() as client:
        yield client


async def test_vault_info_says_where_clients_reach_vault(bench: Bench) -> None:
    settings = bench.parts.settings.model_copy(update={"vault_external_addr": "https://vault.example"})
    async with bench.another(settings=settings) as http:
        answer = (await http.get("/v1/api/vault/info")).json()
    assert answer == {"vault_addr": settings.vault_addr, "vault_external_addr": "https://vault.example"}


async def test_health_says_when_the_api_is_about_to_end(bench: Bench) -> None:
    closing = asyncio.Event()
    async with bench.another(closing=closing) as http:
        assert (await http.get("/v1/api/health?k=state")).text == "active"
        closing.set()
        assert (await http.get("/v1/api/health?k=state")).text == "draining"


async def test_the_openapi_document_is_served(stranger: httpx.AsyncClient, bench: Bench) -> None:
    assert (await stranger.get("/v1/api/openapi.json")).json() == bench.app.openapi()


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        *((method, "/v1/api/job/", "/v1/api/job") for method in METHODS),
        ("DELETE", f"/v1/api/job/{'0' * 24}/", f"/v1/api/job/{'0' * 24}"),
        ("POST", f"/v1/api/job/kill/{'0' * 24}/", f"/v1/api/job/kill/{'0' * 24}"),
        ("GET", "/v1/api/health/?k=%ff", "/v1/api/health?k=%ff"),
        ("POST", "/nowhere/?skip=1&qname=a%20b", "/nowhere?skip=1&qname=a%20b"),
        ("GET", "/a%20b%3Fc%0d%0ad/", "/a%20b%3Fc%0d%0ad"),
        ("GET", "/%E2%82%AC/?x=/", "/%E2%82%AC?x=/"),
        ("GET", "/x//", "/x/"),
    ],
)
async def test_a_trailing_slash_is_taken_away(stranger: httpx.AsyncClient, method: str, path: str, target: str) -> None:
    answer = await stranger.request(method, path)
    assert (answer.status_code, answer.headers["location"].lower(), answer.content) == (301, target.lower(), b"")


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("//elsewhere.example/", b"//elsewhere.example/"),
        ("/\\elsewhere.example/", b"/\\elsewhere.example/"),
        ("http://elsewhere.example/", b"http://elsewhere.example/"),
        ("/x/", b"/x%2F"),
    ],
)
async def test_a_redirect_that_would_lead_elsewhere_is_a_404(bench: Bench, path: str, raw: bytes) -> None:
    """As they stand in a request's first line: an HTTP client would tidy them up."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": raw, "query_string": b"", "headers": []}
    await bench.app(scope, receive, send)
    assert sent[0]["status"] == 404
    assert b"location" not in dict(sent[0]["headers"])


WRONG = {
    JOB: ("held=", "cursor=", "cursor=1-x", "held=1", "held=True", "skip=%C2%B2", f"skip={'9' * 5000}", "qname=%00"),
    "/v1/api/events": ("status=", f"qname={'q' * 1001}"),
    "/v1/api/audit": (
        "limit=0",
        "limit=101",
        "cursor=x",
        f"cursor={'9' * 30}",
        "since=1",
        "qname=%00",
        "since=2026-13-01",
    ),
    "/v1/api/lineage": ("", "secret=", "secret=a&version=x", "secret=a&outdated=1", "secret=a&limit=101"),
}


@pytest.mark.parametrize("target", [f"{path}?{query}" for path, queries in WRONG.items() for query in queries])
async def test_a_query_that_makes_no_sense_is_a_400(bench: Bench, target: str) -> None:
    answer = await bench.http.get(target)
    assert (answer.status_code, answer.json()["status"]) == (400, "Invalid job request.")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[" * 100_000, "JSON with more than 100 levels is not read."),
        (b'{"run": "echo"}', "Expected `array`, got `str` - at `$.run`"),
        (b'{"wrap_secret_id": "\\ud800"}', "not JSON"),
        (b'{"wrap_secret_id": "x", "qname": "a\\u0000"}', "A queue name contains no control characters."),
        (b'{"wrap_secret_id": "x", "payload": "hello"}', "The payload is not a transit ciphertext."),
    ],
)
async def test_a_bad_body_is_a_400_that_says_what_is_wrong_with_it(bench: Bench, body: bytes, error: str) -> None:
    answer = await bench.http.post(JOB, content=body)
    assert (answer.status_code, answer.json()) == (400, {"status": "Invalid job request.", "error": error})


@pytest.mark.parametrize("meanwhile", ["ended", "launched"])
async def test_a_kill_is_decided_on_the_job_now(bench: Bench, monkeypatch: pytest.MonkeyPatch, meanwhile: str) -> None:
    """Behind the end of a job there is no kill, and no other fact makes it miss."""
    job_id, append, token = await bench.submitted(), bench.parts.log.append, queue_token("deploys")
    await append(token, job_id, started())
    first = launched() if meanwhile == "launched" else ended()

    async def overtaken(_log: object, *arguments: Any, **options: Any) -> Outcome:
        await append(token, job_id, first)
        return await append(*arguments, **options)

    monkeypatch.setattr(JetStreamEventLog, "append", overtaken)
    answer = await bench.http.post(f"{JOB}/kill/{job_id}")
    told = (answer.status_code, answer.json()["status"], KillRequested.kind in (await bench.load(job_id)).facts)
    assert told == ((200, "running", True) if meanwhile == "launched" else (200, "success", False))
    records = await bench.broker.direct_get(EVENTS, {"multi_last": [event_filter("*", "*", job_id)]})
    assert len(records) == (4 if meanwhile == "launched" else 3)


@pytest.mark.parametrize("between", ["a bar", "a runner that ends it", "an outage"])
async def test_a_job_that_waits_is_killed_whatever_comes_between_the_request_and_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    job_id, log, token = await bench.submitted(), bench.parts.log, queue_token("deploys")
    before, publish = await bench.load(job_id), JetStreamEventLog._publish  # noqa: SLF001 - between two of these

    async def interrupted(self: JetStreamEventLog, *arguments: Any) -> Mapping[str, Any]:
        if ".ended" in arguments[0].subject:
            monkeypatch.undo()
            requested = await bench.load(job_id)
            assert (requested.state, requested.kill_requested) == (State.QUEUED, True)
            assert await log.append(token, job_id, started(), after=before.sequence) is Outcome.LOST
            if between == "an outage":
                raise BrokerUnavailableError
            if between == "a runner that ends it":
                await log.append(token, job_id, ended("failed", "killed"), after=requested.sequence)
            else:
                assert await log.bar(token, job_id, after=requested.sequence)
        return await publish(self, *arguments)

    monkeypatch.setattr(JetStreamEventLog, "_publish", interrupted)
    answer = await bench.http.post(f"{JOB}/kill/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (
        200,
        "failed" if between.startswith("a runner") else "queued",
    )
    killed = await bench.load(job_id)
    assert (killed.state, set(killed.facts)) == (State.FAILED, {"submitted", "kill_requested", "ended"})
