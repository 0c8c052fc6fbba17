"""The API, or its NATS, killed between taking a job and saying so: what clients hear is true, a repeat is one job."""

import asyncio
import re
import secrets
from pathlib import Path

import httpx
import pytest

from stint.core.names.streams import EVENTS
from stint.jetstream import Broker, JetStreamHistory
from stint.jetstream.streams import consistency
from stint.vault.setup import client_token
from tests.support.answers import json_of
from tests.support.api_bench import BODY, ApiProcess, api, service_environ
from tests.support.brokers import connected
from tests.support.relay import Relay
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until

pytestmark = pytest.mark.soak

SUBMISSION = re.compile(rb"PUB ev\.\w+\.\w+\.submitted ")
PAYLOAD = re.compile(rb"PUB pl\.")


class Line(Relay):
    """A line to NATS that breaks when a client's bytes hold `at`: they get through or not, and no answer comes."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.broken = asyncio.Event()
        self.mend()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def break_at(self, at: re.Pattern[bytes], *, through: bool) -> None:
        self._at, self._through = at, through

    def mend(self) -> None:
        self.break_at(re.compile(b"\0\0never"), through=True)
        self.broken.clear()

    async def sent(self, data: bytes) -> bytes:
        if self._at.search(data):
            self.broken.set()
        return data if self._through or not self.broken.is_set() else b""

    async def answered(self, data: bytes) -> bytes:
        return b"" if self.broken.is_set() else data


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
            assert await submissions(broker) > set(ids)
            taken_in = await submissions(broker)
            assert len(taken_in) == 2
            # WORK gets its copies of EVENTS' submissions a moment later.
            in_work = await until(JetStreamHistory(broker).in_work, lambda places: len(places) >= len(taken_in))
            assert {place.job_id for place in in_work} == taken_in
            for api in (first, second):
                assert (await http.get(f"{api.url}/v1/api/job/{ids[0]}")).json()["status"] == "queued"


@pytest.mark.parametrize(("at", "through"), [(SUBMISSION, True), (SUBMISSION, False), (PAYLOAD, True)])
async def test_an_answer_that_never_comes_is_a_503_that_says_what_is_known(
    nats_process: NatsProcess, openbao: OpenBao, at: re.Pattern[bytes], through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consistency, "ELECTION", 1.0)
    async with (
        (broken := Line(nats_process.port)).listening(),
        connected(nats_process.url) as broker,
        api(broken.url, openbao) as bench,
    ):
        broken.break_at(at, through=through)
        bench.broker.timeout = 1.0
        async with asyncio.timeout(30):
            answer = await bench.submit()
        assert answer.status_code == 503
        named: str | None = answer.json().get("_id")
        assert (named is not None) == (at == SUBMISSION), "without an id nothing was taken"
        assert await submissions(broker) == ({named} if through and named else set())
