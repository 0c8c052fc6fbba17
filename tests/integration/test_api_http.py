from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.api_bench import Bench, api
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess

NO_TOKEN = {"status": "Invalid request.", "error": "Missing X-Auth-Token"}


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


@pytest.fixture
async def stranger(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with bench.client() as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["", "/x", "/kill", "/x/y/z", "/" + "0" * 24])
async def test_everything_under_job_needs_a_token(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await stranger.request(method, f"/v1/api/job{path}")
    assert (answer.status_code, answer.json()) == (400, NO_TOKEN)


@pytest.mark.parametrize("token", ["", "unknown", "s.no such", "\u00e9"])
async def test_a_token_that_vault_does_not_take_is_a_403(stranger: httpx.AsyncClient, token: str) -> None:
    answer = await stranger.get("/v1/api/job", headers=[(b"x-auth-token", token.encode("latin-1"))])
    assert (answer.status_code, answer.json()["status"]) == (403, "Permission Denied.")


async def test_the_403_says_what_vaults_own_client_says(stranger: httpx.AsyncClient) -> None:
    error = (await stranger.get("/v1/api/job", headers={"x-auth-token": "unknown"})).json()["error"]
    first, *_, last = error.split("\n")
    assert (first, last) == ("Error making API request.", "* permission denied")
    assert "Code: 403. Errors:" in error


@pytest.mark.parametrize("path", ["/v1/api/job/x/y/z", "/v1/api/jobs", "/", "/v1", "//x", "/v1/api/jobx"])
async def test_an_unknown_path_is_a_text_404(bench: Bench, path: str) -> None:
    answer = await bench.http.get(f"http://api{path}")
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/api/job"), ("GET", f"/v1/api/job/kill/{'0' * 24}"), ("POST", "/v1/api/health")]
)
async def test_a_wrong_method_is_an_empty_405(bench: Bench, method: str, path: str) -> None:
    answer = await bench.http.request(method, path)
    assert (answer.status_code, answer.content) == (405, b"")


async def test_a_redirect_never_leads_to_another_host(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("http://api//elsewhere.example/")
    assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_a_limited_token_is_asked_about_each_time_another_one_once(bench: Bench) -> None:
    limited = await bench.limited_token(2)
    async with bench.client({"X-Auth-Token": limited}) as http:
        codes = [(await http.get(f"/v1/api/job/{'0' * 24}")).status_code for _ in range(3)]
    assert codes == [404, 404, 403]
    token = await bench.limited_token(0)
    assert await bench.status_with(token) == 200
    await bench.admin(lambda client: client.auth.token.revoke(token))
    assert await bench.status_with(token) == 200  # remembered for 5 s
    bench.clock.advance(5.1)
    assert await bench.status_with(token) == 403


async def test_markup_is_escaped(bench: Bench) -> None:
    job_id = await bench.submitted(payload="", container_image="<a>&\u2028")
    answer = await bench.http.get(f"/v1/api/job/{job_id}")
    assert "\\u003ca\\u003e\\u0026\\u2028" in answer.text
    assert answer.json()["container_image"] == "<a>&\u2028"


async def test_health_counts_jobs_and_sums_runners(bench: Bench, stranger: httpx.AsyncClient) -> None:
    figures = (await stranger.get("/v1/api/health")).json()
    assert all(isinstance(value, str) for value in figures.values())
    assert figures["state"] == "active"
    assert (figures["containers"], figures["mem_total"], figures["architecture"]) == ("0", "0", "")
    await bench.put_runner("one", b'{"containers": 2, "mem_total": 5, "architecture": "x86_64"}')
    await bench.put_runner("two", b'{"containers": 3, "mem_total": "x", "architecture": "arm64"}')
    await bench.put_runner("bad", b"[]")
    figures = (await stranger.get("/v1/api/health")).json()
    assert (figures["containers"], figures["mem_total"], figures["architecture"]) == ("5", "5", "arm64, x86_64")
    one = await stranger.get("/v1/api/health?k=containers")
    assert (one.text, one.headers["content-type"]) == ("5", "text/plain; charset=utf-8")


@pytest.mark.parametrize("key", ["", "nothing"])
async def test_an_unknown_health_key_is_a_400(stranger: httpx.AsyncClient, key: str) -> None:
    answer = await stranger.get("/v1/api/health", params={"k": key})
    assert answer.status_code == 400
    assert answer.json() == {"status": "Invalid request.", "error": "Invalid health metric key"}
