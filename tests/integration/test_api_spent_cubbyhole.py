"""When NATS or Vault fails right after a cubbyhole was read, nobody hears an alarm about a reading that was ours."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from stint.core.errors import VaultUnavailableError
from stint.vault import SecretData, Vault
from stint.vault.setup import client_token
from stint_api.submit import submitter
from tests.support.api_bench import BODY, SEALED, Bench, api
from tests.support.servers import BaoProcess, NatsProcess, OpenBao
from tests.support.submissions import Client, UnsureLog, in_cubbyhole, stored
from tests.support.waiting import until

pytestmark = pytest.mark.soak

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
