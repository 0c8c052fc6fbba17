"""Routes without a token, and what is answered before and beside any route."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from starlette.types import Message

from stint_api.app import create_app
from stint_api.routes.models import HealthBody
from tests.support.api_bench import Bench, api
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "INVENTED")


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


@pytest.fixture
async def stranger(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with bench.client() as client:
        yield client


@pytest.mark.parametrize("query", ["", "?x=1", "?next=//elsewhere.example"])
async def test_login_leads_to_the_page(stranger: httpx.AsyncClient, query: str) -> None:
    answer = await stranger.get(f"/login{query}")
    assert (answer.status_code, answer.headers["location"], answer.content) == (301, "/", b"")


async def test_vault_info_says_where_clients_reach_vault(bench: Bench, stranger: httpx.AsyncClient) -> None:
    own = bench.parts.vault_addr
    assert (await stranger.get("/v1/api/vault/info")).json() == {"vault_addr": own, "vault_external_addr": own}
    app = create_app(replace(bench.parts, vault_external_addr="https://vault.example"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        answer = (await http.get("/v1/api/vault/info")).json()
    assert answer == {"vault_addr": own, "vault_external_addr": "https://vault.example"}


async def test_health_gives_each_key_as_text_alone_too(stranger: httpx.AsyncClient) -> None:
    figures = (await stranger.get("/v1/api/health")).json()
    assert set(figures) == set(HealthBody.model_fields)
    for key, value in figures.items():
        answer = await stranger.get("/v1/api/health", params={"k": key})
        assert (answer.status_code, answer.text) == (200, value)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_health_says_when_the_api_is_about_to_end(bench: Bench) -> None:
    closing = asyncio.Event()
    app = create_app(replace(bench.parts, closing=closing))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        assert (await http.get("/v1/api/health?k=state")).text == "active"
        closing.set()
        assert (await http.get("/v1/api/health?k=state")).text == "draining"


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        *((method, "/v1/api/job/", "/v1/api/job") for method in METHODS),
        ("GET", "/v1/api/health/?k=%ff", "/v1/api/health?k=%ff"),
        ("POST", "/nowhere/?skip=1&qname=a%20b", "/nowhere?skip=1&qname=a%20b"),
        ("GET", "/a%20b%3Fc%0d%0ad/", "/a%20b%3Fc%0d%0ad"),
        ("GET", "/%E2%82%AC/?x=/", "/%E2%82%AC?x=/"),
        ("GET", "/x//", "/x/"),
    ],
)
async def test_a_trailing_slash_is_taken_away_and_all_else_kept(
    stranger: httpx.AsyncClient, method: str, path: str, target: str
) -> None:
    answer = await stranger.request(method, path)
    assert (answer.status_code, answer.headers["location"].lower()) == (301, target.lower())
    assert answer.content == b""


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


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/api/job", "GET, POST"),
        (f"/v1/api/job/{'0' * 24}", "DELETE, GET"),
        (f"/v1/api/job/{'0' * 24}/events", "GET"),
        ("/v1/api/health", "GET"),
        ("/login", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(bench: Bench, path: str, allowed: str) -> None:
    for method in set(METHODS) - set(allowed.split(", ")):
        answer = await bench.http.request(method, path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (405, allowed, b"")


async def test_any_accept_and_content_type_will_do(bench: Bench) -> None:
    headers = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"WRAP_secret_ID": "x", "Payload": "vault:v1:c2VhbGVk", "status": "success", "_id": "1"} and more'
    answer = await bench.http.post("/v1/api/job", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.text.endswith("}\n")
    assert answer.json()["status"] == "queued"


async def test_the_openapi_document_is_served(stranger: httpx.AsyncClient, bench: Bench) -> None:
    answer = await stranger.get("/v1/api/openapi.json")
    assert answer.json() == bench.app.openapi()
