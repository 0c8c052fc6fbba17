"""The API, or its NATS, killed between taking a job and saying so: what clients hear is true, a repeat is one job."""

import asyncio
import re
import secrets
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from stint.client.rest.connection import refusal
from stint.core.events import Deleted, KillRequested
from stint.core.names.streams import EVENTS
from stint.jetstream import Broker, JetStreamEventLog
from stint.vault.setup import client_token
from tests.support.answers import json_of
from tests.support.api_bench import BODY, Api, ApiProcess, Bench, api, api_process, service_environ, submitted
from tests.support.brokers import connected
from tests.support.relay import Line
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until

pytestmark = pytest.mark.soak

SUBMISSION = re.compile(rb"PUB ev\.\w+\.\w+\.submitted ")


async def submissions(broker: Broker) -> set[str]:
    info = await broker.api(f"STREAM.INFO.{EVENTS}", {"subjects_filter": "ev.*.*.submitted"})
    subjects: dict[str, int] = info["state"].get("subjects") or {}
    assert set(subjects.values()) <= {1}
    return {subject.split(".")[1] for subject in subjects}


async def post(http: httpx.AsyncClient, url: str, key: str) -> httpx.Response:
    return await http.post(f"{url}/v1/api/job", json=BODY, headers={"Idempotency-Key": key}, timeout=60)


async def taken(http: httpx.AsyncClient, url: str, key: str) -> str:
    """As a client that tries again on 503."""
    answer = await until(
        lambda: post(http, url, key), lambda answer: answer.status_code != httpx.codes.SERVICE_UNAVAILABLE, seconds=60
    )
    return str(json_of(answer)["_id"])


@pytest.mark.parametrize("stored", [True, False])
async def test_a_killed_apis_client_finds_its_one_job_anywhere(
    nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path, stored: bool
) -> None:
    token = await client_token(openbao.address, openbao.root_token)
    async with (broken := Line(nats_process.port)).listening(), connected(nats_process.url) as broker:
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
            key = secrets.token_hex(8)
            broken.break_at(SUBMISSION, through=stored)
            async with broker.subscribe("live.*.*.submitted") as accepted:
                asking = asyncio.create_task(post(http, first.url, key))
                await broken.broken.wait()
                if stored:
                    await accepted.next_msg(timeout=30)
                await first.kill()
            with pytest.raises(httpx.TransportError):
                await asking
            assert len(await submissions(broker)) == 1 + stored
            broken.mend()
            await first.start()
            ids = await asyncio.gather(*(taken(http, api.url, key) for api in (second, first) * 2))
            assert len(set(ids)) == 1
            there = await submissions(broker)
            assert (len(there), there > set(ids)) == (2, True)
            for api in (first, second):
                assert (await http.get(f"{api.url}/v1/api/job/{ids[0]}")).json()["status"] == "queued"


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("through", [True, False])
async def test_an_api_that_is_stopped_says_of_a_submission_that_nothing_is_known(
    nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path, through: bool, signals: int
) -> None:
    """NATS does not answer for longer than a stopped API waits, which is not at all at a second signal."""
    async with (
        connected(nats_process.url) as broker,
        (line := Line(nats_process.port)).listening(),
        api_process(tmp_path, line.url, openbao) as api,
    ):
        answer = await cut_off(line, SUBMISSION, api, "POST", "job", through=through, signals=signals)
        assert answer.status_code == 503
        assert await submissions(broker) == ({answer.json()["_id"]} if through else set())


@pytest.mark.parametrize(
    ("method", "path", "written"),
    [
        ("POST", "job/kill/{}", rb"PUB ev\.\w+\.\w+\.kill_requested "),
        ("DELETE", "job/{}", rb"PUB ev\.\w+\.\w+\.deleted "),
    ],
)
async def test_a_command_that_a_stopped_api_has_not_finished_can_be_repeated(
    nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path, method: str, path: str, written: bytes
) -> None:
    """It is a 503 with the job's id, after which a client knows that it may itself have deleted what is gone."""
    async with (
        connected(nats_process.url) as broker,
        (line := Line(nats_process.port)).listening(),
        api_process(tmp_path, line.url, openbao) as (server, http),
    ):
        job_id = await submitted(http)
        answer = await cut_off(line, re.compile(written), (server, http), method, path.format(job_id))
        assert (answer.status_code, answer.json()["_id"], refusal(answer).doubtful) == (503, job_id, True)
        job = await JetStreamEventLog(broker).load(job_id)
        assert job
        assert {KillRequested.kind, Deleted.kind} & job.facts.keys()


async def cut_off(
    line: Line, at: re.Pattern[bytes], api: Api, method: str, path: str, *, through: bool = True, signals: int = 2
) -> httpx.Response:
    """What a request is answered whose API is stopped, with a second signal at once, while NATS does not answer."""
    server, http = api
    line.break_at(at, through=through)
    asking = asyncio.create_task(http.request(method, f"/v1/api/{path}", json=BODY))
    await line.broken.wait()
    for _ in range(signals):
        server.signal(signal.SIGTERM)
        # It has heard the signal when it refuses connections, or closes the one on which it is being asked.
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            await until(lambda: http.get("/healthz"), lambda _: False)
    return await asking


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
            if answer.status_code != httpx.codes.OK:  # others go on, so that somebody hears that NATS is away
                await self.broker.wait_connected()

    async def refused(self, since: int) -> None:
        """Return once one of the answers since then was a refusal."""
        async with self._news:
            await self._news.wait_for(lambda: any(answer["code"] != httpx.codes.OK for answer in self.answers[since:]))

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
                before = len(load.answers)
                await nats_process.kill()
                await load.refused(before)  # a restart that is fast enough would be noticed by nobody
                await nats_process.start()
            await load.goes_on()
            load.enough = True
            await asyncio.gather(*writers)
        assert {answer["code"] for answer in load.answers} == {200, 503}
        there = await submissions(bench.broker)
        assert load.ids(200) <= there <= load.ids(200) | load.ids(503)
