"""The API, or its NATS, killed between taking a job and saying so: what clients hear is true, a repeat is one job."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from stint.core.subjects import EVENTS, WORK
from stint.jetstream import Broker, consistency
from stint.vault.setup import client_token
from tests.support.api_bench import BODY, ApiProcess, Bench, api, service_environ
from tests.support.brokers import connected
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess, running
from tests.support.waiting import until

SUBMISSION = b"PUB ev.submitted."
PAYLOAD = b"PUB pl."


@dataclass
class Line:
    """A line to NATS that breaks when a client's bytes hold `at`: they get through or not, and no answer comes."""

    port: int
    at: bytes = b"\0"
    through: bool = True
    url: str = ""
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    ends: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.ends += writer, back
        silent = asyncio.Event()
        self.tasks |= {
            asyncio.create_task(self._forward(reader, back, silent)),
            asyncio.create_task(self._back(there, writer, silent)),
        }

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if self.at in data:
                silent.set()
                self.broken.set()
            if self.through or not silent.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()

    @staticmethod
    async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if not silent.is_set():
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def line(nats: NatsProcess) -> AsyncIterator[Line]:
    line = Line(nats.port)
    server = await asyncio.start_server(line.connect, "127.0.0.1", 0)
    line.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        for task in line.tasks:
            task.cancel()
        await asyncio.gather(*line.tasks, return_exceptions=True)
        for end in line.ends:
            end.close()
        await asyncio.gather(*(end.wait_closed() for end in line.ends), return_exceptions=True)


async def submissions(broker: Broker, stream: str = EVENTS) -> set[str]:
    info = await broker.api(f"STREAM.INFO.{stream}", {"subjects_filter": "ev.submitted.*.*"})
    subjects: dict[str, int] = info["state"].get("subjects") or {}
    assert set(subjects.values()) <= {1}
    return {subject.rpartition(".")[2] for subject in subjects}


async def post(http: httpx.AsyncClient, url: str, key: str) -> httpx.Response:
    return await http.post(f"{url}/v1/api/job", json=BODY, headers={"Idempotency-Key": key}, timeout=60)


async def taken(http: httpx.AsyncClient, url: str, key: str) -> str:
    """As a client that tries again on 503."""
    answer = await until(
        lambda: post(http, url, key), lambda answer: answer.status_code != httpx.codes.SERVICE_UNAVAILABLE, seconds=60
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["_id"])


@pytest.mark.parametrize("stored", [True, False])
async def test_a_killed_apis_client_finds_its_one_job_anywhere(
    nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path, stored: bool
) -> None:
    token = await client_token(openbao.address, openbao.root_token)
    async with line(nats_process) as broken, connected(nats_process.url) as broker:
        first, second = [
            ApiProcess(tmp_path / name, environ=await service_environ(url, openbao))
            for name, url in (("first", broken.url), ("second", nats_process.url))
        ]
        async with (
            running(first),
            running(second),
            httpx.AsyncClient(headers={"X-Auth-Token": token}, trust_env=False) as http,
        ):
            await taken(http, first.url, "before")
            await taken(http, second.url, "before")
            assert len(await submissions(broker)) == 1
            broken.at, broken.through, key = SUBMISSION, stored, secrets.token_hex(8)
            async with broker.subscribe("live.submitted.>") as accepted:
                asking = asyncio.create_task(post(http, first.url, key))
                await broken.broken.wait()
                if stored:
                    await accepted.next_msg(timeout=30)
                await first.kill()
            with pytest.raises(httpx.TransportError):
                await asking
            assert len(await submissions(broker)) == 1 + stored
            broken.at = b"\0"
            await first.start()
            ids = await asyncio.gather(*(taken(http, api.url, key) for api in (second, first) * 2))
            assert len(set(ids)) == 1
            assert await submissions(broker) > set(ids)
            assert len(await submissions(broker)) == len(await submissions(broker, WORK)) == 2
            for api in (first, second):
                assert (await http.get(f"{api.url}/v1/api/job/{ids[0]}")).json()["status"] == "queued"


@pytest.mark.parametrize(("at", "through"), [(SUBMISSION, True), (SUBMISSION, False), (PAYLOAD, True)])
async def test_an_answer_that_never_comes_is_a_503_that_says_what_is_known(
    nats_process: NatsProcess, openbao: OpenBao, at: bytes, through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consistency, "ELECTION", 1.0)
    async with (
        line(nats_process) as broken,
        connected(nats_process.url) as broker,
        api(broken.url, openbao) as bench,
    ):
        await bench.parts.index.ready.wait()
        broken.at, broken.through = at, through
        bench.broker.timeout = 1.0
        async with asyncio.timeout(30):
            answer = await bench.submit()
        assert answer.status_code == 503
        named: str | None = answer.json().get("_id")
        assert (named is not None) == (at == SUBMISSION), "without an id nothing was taken"
        assert await submissions(broker) == ({named} if through and named else set())


class Load:
    """Clients that submit, with and without keys, and note what they hear."""

    def __init__(self, bench: Bench) -> None:
        self.http = bench.http
        self.broker = bench.broker
        self.answers: list[dict[str, Any]] = []
        self.enough = False
        self._news = asyncio.Condition()

    async def write(self) -> None:
        while not self.enough:
            headers = {"Idempotency-Key": secrets.token_hex(8)} if len(self.answers) % 2 else {}
            answer = await self.http.post("/v1/api/job", json=BODY, headers=headers)
            assert answer.status_code in {200, 503}, answer.text
            async with self._news:
                self.answers.append({"code": answer.status_code, **answer.json()})
                self._news.notify_all()
            await self.broker.wait_connected()

    async def goes_on(self) -> None:
        """Return once thirty more were taken."""
        before = len(self.answers)
        async with self._news:
            await self._news.wait_for(lambda: len(self.ids(200, before)) >= 30)

    def ids(self, code: int, since: int = 0) -> set[str]:
        return {answer["_id"] for answer in self.answers[since:] if answer["code"] == code and "_id" in answer}


async def test_what_was_said_not_to_be_taken_never_comes(nats_process: NatsProcess, openbao: OpenBao) -> None:
    """NATS is killed under a load of submissions."""
    async with api(nats_process.url, openbao) as bench:
        load = Load(bench)
        writers = [asyncio.create_task(load.write()) for _ in range(8)]
        async with asyncio.timeout(100):
            for _ in range(2):
                await load.goes_on()
                await nats_process.restart()
            await load.goes_on()
            load.enough = True
            await asyncio.gather(*writers)
        assert {answer["code"] for answer in load.answers} == {200, 503}
        there = await submissions(bench.broker)
        assert load.ids(200) <= there <= load.ids(200) | load.ids(503)
