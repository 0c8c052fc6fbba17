import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from stint.client import ApiError, ApiRefusedError, ApiUnreachableError, Client, Endpoints
from stint.client.rest import api as client_api
from stint.client.rest.api import Api
from stint.client.rest.connection import http_client
from tests.support.api_bench import BODY, secret
from tests.support.api_bench import Api as Own
from tests.support.ports import free_port
from tests.support.servers import OpenBao
from tests.support.terminals import command
from tests.support.vault_bench import ROLE


@dataclass
class Proxy:
    """Stands in front of an API, and does to each request in turn what its plan says; then it passes them on.

    `cut`: breaks the connection. `swallow`: passes the request on, and breaks the connection in place of the answer.
    A number: answers so itself, with `body`.
    """

    target: str
    plan: list[str | int]
    body: dict[str, str] | bytes = field(default_factory=dict)
    url: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    keys: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        self.keys.append(headers.get("Idempotency-Key", ""))
        step = self.plan.pop(0) if self.plan else "pass"
        if isinstance(step, int):
            self._answer(writer, step, self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode())
        elif step != "cut":
            async with httpx.AsyncClient(base_url=self.target, trust_env=False) as http:
                answer = await http.request(method, path, content=body, headers=headers)
            self.answers.append(answer.status_code)
            if step == "pass":
                self._answer(writer, answer.status_code, answer.content)
        self.done.set()
        writer.close()

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, code: int, body: bytes) -> None:
        head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)


@pytest.fixture
def where(own: Own, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> Endpoints:
    monkeypatch.setattr(client_api, "PAUSES", (0.01,) * 5)
    return Endpoints(url=own[0].url, vault_addr=openbao.address, token=own[1].headers["X-Auth-Token"])


def job() -> dict[str, str]:
    return {**BODY, "qname": secret()}


async def submit(where: Endpoints, fields: dict[str, str]) -> str:
    async with Api(http_client(where)) as api:
        return await api.submit(fields)


@pytest.mark.parametrize("plan", [[], ["cut"], ["swallow"], ["cut", "swallow", "swallow"], ["swallow"] * 5, [503]])
async def test_a_job_is_sent_until_it_is_taken_and_taken_once(where: Endpoints, plan: list[str | int]) -> None:
    fields, tries = job(), len(plan) + 1
    async with Proxy(where.url, plan, {"error": "who knows", "_id": "0" * 24}).running() as proxy:
        async with Api(http_client(replace(where, url=proxy.url))) as api:
            job_id = await api.submit(fields)
        async with Api(http_client(where)) as api:
            assert (await api.get(f"/v1/api/job/{job_id}"))["status"] == "queued"
    assert len(proxy.keys) == tries
    assert len(set(proxy.keys)) == 1
    assert len(proxy.keys[0]) == 32
    assert set(proxy.answers) == {200}


async def test_a_deletion_whose_answer_is_lost_is_one(where: Endpoints) -> None:
    job_id = await submit(where, job())
    async with (
        Proxy(where.url, ["cut", "swallow"]).running() as proxy,
        Client.connect(replace(where, url=proxy.url)) as stint,
    ):
        await stint.job(job_id).delete()
        assert proxy.answers == [200, 404]
        with pytest.raises(ApiRefusedError, match="has no job"):
            await stint.job(job_id).delete()


async def test_each_submission_has_a_key_of_its_own(where: Endpoints) -> None:
    fields = job()
    async with Proxy(where.url, []).running() as proxy, Api(http_client(replace(where, url=proxy.url))) as api:
        assert await api.submit(fields) != await api.submit(fields)
    assert len(set(proxy.keys)) == 2


UNKNOWN = "It is not known whether the job was submitted"


@pytest.mark.parametrize(
    ("plan", "body", "error", "said"),
    [
        (["cut"] * 9, b"", ApiUnreachableError, UNKNOWN),
        (["cut", 500], {"error": "ALERT"}, ApiRefusedError, "ALERT\nAn earlier attempt may have been accepted"),
        ([502] * 9, b"<h1>Bad gateway</h1>", ApiRefusedError, UNKNOWN),
        ([504] * 9, b'{"error":"time-out"}', ApiRefusedError, UNKNOWN),
        ([500] * 9, b"", ApiRefusedError, UNKNOWN),
        ([503] * 9, {"error": "who knows", "_id": "0" * 24}, ApiRefusedError, rf"who knows \(job {'0' * 24}\)"),
    ],
)
async def test_a_submission_that_stays_in_doubt_says_so(
    where: Endpoints, plan: list[str | int], body: dict[str, str] | bytes, error: type[ApiError], said: str
) -> None:
    async with Proxy(where.url, [*plan], body).running() as proxy:
        with pytest.raises(error, match=said) as caught:
            await submit(replace(where, url=proxy.url), job())
    assert caught.value.doubtful
    assert len(proxy.keys) == min(len(plan), 6)


@pytest.mark.parametrize("name", [("submit",), ("run", "--detach")])
async def test_a_command_says_that_it_asks_again(where: Endpoints, tmp_path: Path, name: Sequence[str]) -> None:
    async with Proxy(where.url, ["cut", "cut"]).running() as proxy:
        environ = {"STINT_URL": proxy.url, "STINT_TOKEN": where.token, "STINT_ROLE": ROLE, "HOME": str(tmp_path)}
        environ["VAULT_ADDR"] = where.vault_addr
        ended = await command(environ, *name, "--queue", secret().lower(), "--image", "busybox")
    assert (ended.code, len(ended.out), len(proxy.keys)) == (0, 25, 3)
    (line,) = ended.err.splitlines()
    assert line.startswith(f"stint: Stint at {proxy.url} is not reachable (")
    assert line.endswith("). The request is repeated.")


async def test_what_may_have_arrived_is_waited_for(where: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_api, "PAUSES", (0.1,) * 50)
    before, after = Proxy(where.url, ["swallow"]), Proxy(where.url, [])
    async with before.running(free_port()):
        submitting = asyncio.create_task(submit(replace(where, url=before.url), job()))
        await before.done.wait()
    assert not submitting.done()
    async with after.running(int(before.url.rpartition(":")[2])):
        assert await submitting
    assert before.keys == after.keys


@pytest.mark.parametrize("code", [400, 403, 409, 413, 429, 500, 503])
async def test_a_clear_answer_is_one(where: Endpoints, code: int) -> None:
    async with Proxy(where.url, [code], {"error": "no"}).running() as proxy:
        with pytest.raises(ApiRefusedError, match=rf"Stint refused \({code}\): no$"):
            await submit(replace(where, url=proxy.url), job())
    assert len(proxy.keys) == 1


async def test_an_api_that_takes_the_job_and_is_gone_leaves_it_in_doubt(where: Endpoints) -> None:
    async with Proxy(where.url, ["swallow"] * 6).running() as proxy:
        submitting = asyncio.create_task(submit(replace(where, url=proxy.url), job()))
        await proxy.done.wait()
    with pytest.raises(ApiUnreachableError, match="It is not known whether the job was submitted") as caught:
        await submitting
    assert caught.value.doubtful


async def test_an_api_that_never_was_there_is_told_at_once(where: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_api, "PAUSES", (60.0,))
    async with asyncio.timeout(10):
        with pytest.raises(ApiUnreachableError):
            await submit(replace(where, url=f"http://127.0.0.1:{free_port()}"), job())
