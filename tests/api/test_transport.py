"""Contract, section 1: transport and error bodies."""

import asyncio

import httpx
import pytest

from tests.api.client import JOB, UNKNOWN_ID, Api, bad_request, refused


async def test_the_content_type_is_ignored(api: Api) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/xml", "multipart/form-data; boundary=x", "", "nonsense"):
        answer = await api.post(await api.plain(container_image=""), content_type=kind, accept="text/html")
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_angle_brackets_and_ampersands_are_escaped(api: Api) -> None:
    body = await api.plain("printf '<a&b>'", qname="<q&a>")
    answer = await api.post(body)
    assert '"\\u003cq\\u0026a\\u003e"' in answer.text
    assert answer.json()["qname"] == "<q&a>"
    job = await api.ended(answer.json()["_id"])
    assert job["output"] == "<a&b>"
    got = await api.http.get(f"{JOB}/{job['_id']}")
    assert not set("<>&") & set(got.text)


@pytest.mark.parametrize(("method", "path"), [("POST", JOB), ("GET", "/v1/api/health"), ("GET", "/login")])
async def test_one_trailing_slash_is_a_301(api: Api, method: str, path: str) -> None:
    """Others are asked of the app alone (`test_api_jobs.py`)."""
    answer = await api.http.request(method, f"{path}/?skip=1&x=a%20b")
    assert answer.status_code == 301
    location = httpx.URL(api.env["STINT_URL"]).join(answer.headers["location"])
    assert (location.path, location.query) == (path, b"skip=1&x=a%20b")
    bare = await api.http.request(method, f"{path}/")
    assert httpx.URL(api.env["STINT_URL"]).join(bare.headers["location"]).raw_path == path.encode()


async def test_an_unknown_path_is_a_404_in_plain_text_and_a_wrong_method_a_405_with_an_empty_body(api: Api) -> None:
    for path in ("/nothing", "/v1", "/v1/api/jobs", f"{JOB}/a/b/c", f"{JOB}/kill/{UNKNOWN_ID}/x"):
        answer = await api.http.get(path)
        assert (answer.status_code, answer.text.rstrip("\n")) == (404, "404 page not found")
        assert answer.headers["content-type"].startswith("text/plain")
    job, kill = f"{JOB}/{UNKNOWN_ID}", f"{JOB}/kill/{UNKNOWN_ID}"
    wrong = [("PUT", JOB), ("OPTIONS", JOB), ("PATCH", job), ("GET", kill)]
    open_ones = [("POST", "/v1/api/health"), ("DELETE", "/v1/api/vault/info"), ("POST", "/v1/api/metrics")]
    for method, path in wrong + open_ones:
        answer = await api.http.request(method, path)
        assert (answer.status_code, answer.content) == (405, b""), (method, path)


async def test_the_token_comes_first_then_the_id_then_the_body(api: Api) -> None:
    paths = [("OPTIONS", JOB), ("PUT", JOB), ("GET", f"{JOB}/a/b/c"), ("GET", f"{JOB}/junk")]
    async with api.anonymous() as http:
        for method, path in (*paths, ("POST", f"{JOB}/kill/junk"), ("POST", JOB)):
            answer = await http.request(method, path, content=b"{")
            assert refused(answer, 400, "Invalid request.") == "Missing X-Auth-Token"
    assert "Invalid job ID" in bad_request(await api.http.post(f"{JOB}/kill/junk", content=b"{"))
    assert bad_request(await api.post(b"{"))


async def test_white_space_around_a_header_is_not_part_of_it(api: Api) -> None:
    url = httpx.URL(api.env["STINT_URL"])
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"GET {JOB} HTTP/1.1\r\nHost: {url.host}\r\nX-Auth-Token: \t{api.vault.client} \t\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()


async def test_a_kill_needs_no_body_and_ignores_one(api: Api) -> None:
    job_id = await api.submit(container_image="")
    for content in (b"", b"{", b"[]"):
        answer = await api.http.post(f"{JOB}/kill/{job_id}", content=content)
        assert (answer.status_code, answer.json()["_id"]) == (200, job_id)
