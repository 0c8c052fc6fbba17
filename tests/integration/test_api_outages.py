"""The API, NATS or Vault fails in the middle of a submission: what clients hear is true, and a repeat is one job."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stint.core.errors import VaultUnavailableError
from stint.core.names.streams import EVENTS
from stint.jetstream import Broker, JetStreamHistory
from stint.jetstream.streams import consistency
from stint.vault import SecretData, Vault
from stint.vault.setup import client_token
from stint_api.submit import submitter
from tests.support.answers import json_of
from tests.support.api_bench import BODY, SEALED, ApiProcess, Bench, api, service_environ
from tests.support.brokers import connected
from tests.support.relay import Relay
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, running
from tests.support.submissions import Client, UnsureLog, in_cubbyhole, stored
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


ALERT = "POSSIBLE SECURITY/INTERCEPTION ALERT!!!"
SPENT = "The job is not queued, and its cubbyhole is spent: Stint itself has read it"


class Watched(Vault):
    """The real Vault; something happens as soon as a cubbyhole has been read."""

    then: Callable[[], Awaitable[None]]

    async def read(self, token: str, path: str) -> SecretData | None:
        found = await super().read(token, path)
        await self.then()
        return found


@pytest.fixture(autouse=True)
def no_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request here waits for one that was sent at the same time."""
    monkeypatch.setattr(submitter, "STORING", 0.1)


@pytest.fixture
async def breakable(nats_process: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    """On a NATS of the test's own."""
    async with api(nats_process.url, openbao) as bench:
        yield bench


@asynccontextmanager
async def failing(
    bench: Bench, then: Callable[[], Awaitable[None]], *, patience: float = 0.5, **parts: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API on the same servers, where `then` happens after each reading."""
    vault = Watched(bench.vault.address)
    vault.then = then
    async with bench.another(vault=vault, patience=patience, **parts) as http:
        yield http


@pytest.mark.parametrize("keyed", [True, False])
async def test_the_caller_is_told_that_the_cubbyhole_is_spent_now_and_later(
    breakable: Bench, nats_process: NatsProcess, keyed: bool
) -> None:
    client = Client(breakable)
    body = {**BODY, "qname": client.qname, **await in_cubbyhole(breakable)}
    headers = {"Idempotency-Key": client.key} if keyed else {}
    async with failing(breakable, nats_process.kill) as http:
        first = await http.post("/v1/api/job", json=body, headers=headers)
        await nats_process.start()
        await breakable.broker.wait_connected()
        again = await http.post("/v1/api/job", json=body, headers=headers)
        for answer in (first, again):
            assert (answer.status_code, answer.json()["status"]) == (500, "Internal Error.")
            assert answer.json()["error"].startswith(SPENT)
            assert "NATS" in answer.json()["error"]
            assert "_id" not in answer.json()
        stranger = {**headers, "X-Auth-Token": await client_token(breakable.vault.address, breakable.root)}
        other = await http.post("/v1/api/job", json=body, headers=stranger)
        assert other.json()["error"].startswith(ALERT), "who did not send it before has no part in it"
    assert await client.submissions() == 0


async def test_a_short_outage_is_waited_out(breakable: Bench, nats_process: NatsProcess) -> None:
    client, fields = Client(breakable), await in_cubbyhole(breakable)

    async def away_for_a_moment() -> None:
        await nats_process.kill()
        await nats_process.start()

    async with failing(breakable, away_for_a_moment, patience=30) as http:
        job_id = await client.take(http, **fields)
    assert (await stored(breakable, await client.job(job_id)))[0] == SEALED.encode()


async def test_nothing_is_spent_while_nats_does_not_answer(breakable: Bench, nats_process: NatsProcess) -> None:
    client, fields = Client(breakable), await in_cubbyhole(breakable)
    nats_process.pause()
    try:
        assert breakable.broker.connected.is_set()
        answer = await breakable.submit(**fields)
        assert answer.status_code == 503
    finally:
        nats_process.resume()
    # The connection may be given up as lost in the moment in which the server goes on.
    answer = await until(lambda: client.post(**fields), lambda answer: answer.status_code != 503)
    assert answer.status_code == 200, answer.text


async def test_a_doubtful_job_is_named_again(bench: Bench) -> None:
    async def nothing() -> None:
        pass

    client = Client(bench)
    body = {**BODY, "qname": client.qname, **await in_cubbyhole(bench)}
    async with failing(bench, nothing, log=UnsureLog(bench.broker)) as http:
        first = await http.post("/v1/api/job", json=body)
        assert (first.status_code, "_id" in first.json()) == (503, True)
        again = await http.post("/v1/api/job", json=body)
    assert (again.status_code, again.json()) == (503, first.json())
    assert (await bench.http.get(f"/v1/api/job/{first.json()['_id']}")).json()["status"] == "queued"
    assert await client.submissions() == 1


async def test_a_reading_that_vault_did_not_answer_is_no_alarm_either(bench: Bench) -> None:
    async def answer_lost() -> None:
        raise VaultUnavailableError

    client, fields = Client(bench), await in_cubbyhole(bench)
    async with failing(bench, answer_lost) as http:
        assert (await client.post(http, **fields)).status_code == 503
        again = await client.post(http, **fields)
    assert (again.status_code, ALERT in again.json()["error"]) == (500, False)
    assert "Vault did not answer an earlier try" in again.json()["error"]


async def test_what_is_no_ciphertext_is_no_alarm_the_second_time(bench: Bench) -> None:
    token = await bench.cubbyhole({"payload": "in the clear"})
    fields = {"payload": "", "cubby_token": token, "cubby_path": "cubbyhole/job"}
    answers = [await bench.submit(**fields) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()


async def test_vault_that_goes_away_after_the_reading(nats: NatsProcess, bao_process: BaoProcess) -> None:
    async with api(nats.url, bao_process) as bench:
        client, fields = Client(bench), await in_cubbyhole(bench)
        async with failing(bench, bao_process.kill) as http:
            answer = await client.post(http, **fields)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(SPENT)
    assert "Vault" in answer.json()["error"].removeprefix(SPENT)
