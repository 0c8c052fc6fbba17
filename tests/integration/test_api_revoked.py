"""A live stream ends with its caller's right to it, and says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from rich.console import Console

from stint.client.api import Api, ApiRefusedError, LiveEvent
from stint.client.follow import Narrator, follow
from stint.vault import Vault
from stint.vault.setup import client_token
from tests.integration.test_api_process import becomes, submitted
from tests.support.api_bench import ApiProcess, service_environ
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess, running

WITHIN = 20
"""Seconds that an end may take: a check each five, and a busy machine."""


def client_of(process: ApiProcess, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=process.url, headers={"X-Auth-Token": token}, timeout=3 * WITHIN, trust_env=False)


class Bench(NamedTuple):
    """An API as a process, and a client that owns it."""

    process: ApiProcess
    http: httpx.AsyncClient
    openbao: OpenBao

    async def admin(self, request: Callable[[Any], Any]) -> Any:
        return await Vault(self.openbao.address).call(self.openbao.root_token, request)

    def client(self, token: str) -> httpx.AsyncClient:
        return client_of(self.process, token)

    async def token(self) -> str:
        return await client_token(self.openbao.address, self.openbao.root_token)


@pytest.fixture(scope="module", params=["vault", "any"])
async def bench(
    request: pytest.FixtureRequest, nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    environ = await service_environ(nats.url, openbao) | {"STINT_AUTHZ": request.param}
    async with running(server := ApiProcess(Path(tmp_path_factory.mktemp("api")), environ=environ)):
        token = await client_token(openbao.address, openbao.root_token)
        async with client_of(server, token) as http:
            await becomes(http, "/readyz", 200)
            yield Bench(server, http, openbao)


async def followed(http: httpx.AsyncClient, job_id: str, first: asyncio.Event) -> list[LiveEvent]:
    """All events of a stream, up to its end."""
    found = []
    async for event in Api(http).events(job_id):
        found.append(event)
        first.set()
    return found


async def test_a_stream_ends_with_its_token_and_no_other_does(bench: Bench) -> None:
    job_id = await submitted(bench.http)
    revoked = await bench.token()
    limited = await bench.admin(lambda c: c.auth.token.create(policies=["stint-client"], num_uses=5, ttl="5m"))
    started = [asyncio.Event() for _ in range(3)]
    async with bench.client(revoked) as one, bench.client(limited["auth"]["client_token"]) as other:
        streams = [
            asyncio.create_task(followed(http, job_id, first))
            for http, first in zip((one, other, bench.http), started, strict=True)
        ]
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*(first.wait() for first in started))
            await bench.admin(lambda c: c.auth.token.revoke(revoked))
            told = await streams[0]
        assert [event.name for event in told] == ["fact", "refused"]
        assert told[-1].data["status"] == "Permission Denied."
        assert told[-1].data["error"]
        assert not streams[1].done()
        assert not streams[2].done()
        await bench.http.post(f"/v1/api/job/kill/{job_id}")
        async with asyncio.timeout(WITHIN):
            ends = [(await stream)[-1].name for stream in streams[1:]]
    assert ends == ["end", "end"]


async def test_a_stream_ends_with_a_limited_token(bench: Bench) -> None:
    job_id = await submitted(bench.http)
    made = await bench.admin(lambda c: c.auth.token.create(policies=["stint-client"], num_uses=5, ttl="5m"))
    token, first = made["auth"]["client_token"], asyncio.Event()
    async with bench.client(token) as http:
        stream = asyncio.create_task(followed(http, job_id, first))
        async with asyncio.timeout(WITHIN):
            await first.wait()
            await bench.admin(lambda c: c.auth.token.revoke(token))
            assert (await stream)[-1].name == "refused"


class Listener(Narrator):
    """Hears that a job is followed, and takes its output."""

    def __init__(self) -> None:
        super().__init__(Console(file=StringIO()), quiet=True)
        self.first = asyncio.Event()

    def fact(self, fact: Mapping[str, Any]) -> None:
        assert fact["kind"] == "submitted"
        self.first.set()

    async def write(self, stream: str, data: bytes) -> None:
        raise AssertionError((stream, data))


async def test_who_follows_a_job_is_told_of_the_refusal(bench: Bench) -> None:
    """As `stint run` does: it tries its stream again, and takes no for an answer."""
    job_id, token, heard = await submitted(bench.http), await bench.token(), Listener()
    async with bench.client(token) as http:
        following = asyncio.create_task(follow(Api(http), job_id, heard, heard))
        async with asyncio.timeout(WITHIN):
            await heard.first.wait()
            await bench.admin(lambda c: c.auth.token.revoke(token))
            with pytest.raises(ApiRefusedError, match="permission denied") as caught:
                await following
    assert caught.value.code == httpx.codes.FORBIDDEN


@pytest.mark.parametrize("bench", ["vault"], indirect=True)
async def test_a_stream_ends_with_the_policy_behind_it(bench: Bench) -> None:
    job_id, first = await submitted(bench.http), asyncio.Event()
    rule = 'path "stint/queue/*" { capabilities = ["read"] }'
    await bench.admin(lambda c: c.sys.create_or_update_policy("reader-for-now", rule))
    token = await client_token(bench.openbao.address, bench.openbao.root_token, policies=["reader-for-now"])
    async with bench.client(token) as http:
        stream = asyncio.create_task(followed(http, job_id, first))
        async with asyncio.timeout(WITHIN):
            await first.wait()
            await bench.admin(lambda c: c.sys.delete_policy("reader-for-now"))
            last = (await stream)[-1]
    assert (last.name, '"read" on "stint/queue/deploys"' in last.data["error"]) == ("refused", True)
