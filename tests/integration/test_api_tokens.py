"""What strangers' tokens cost: Vault is asked rarely about the same one, and never in others' place."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from stint.vault import Caller, Vault
from stint_api.__main__ import LOOKUPS
from stint_api.auth import CACHE_SECONDS, CACHE_SIZE, REFUSED_SECONDS, Lookups, Memory
from stint_api.errors import RefusalError
from tests.support.api_bench import Clock, api
from tests.support.relay import Relay
from tests.support.servers import BaoProcess, NatsProcess, OpenBao
from tests.support.vault_bench import make_bench

BOGUS = "bogus-token"


class CountingVault(Vault):
    """A Vault that counts how often it is asked about a token."""

    asked = 0

    async def lookup_self(self, token: str) -> Caller:
        self.asked += 1
        return await super().lookup_self(token)


class Tarpit(Relay):
    """In front of Vault: a request with a bogus token is never answered, any other one goes on to it."""

    def __init__(self, address: str) -> None:
        super().__init__(urlsplit(address).port or 0)
        self._held = 0
        self.full = asyncio.Event()

    async def sent(self, data: bytes) -> bytes:
        if BOGUS.encode() in data:
            self._held += 1
            if self._held >= LOOKUPS:
                self.full.set()
            await asyncio.Event().wait()
        return data


@pytest.fixture
async def vault(openbao: OpenBao) -> CountingVault:
    return CountingVault(openbao.address)


async def test_a_refusal_is_remembered_for_a_moment(vault: CountingVault) -> None:
    clock = Clock()
    lookups = Lookups(vault, monotonic=clock)
    for _ in range(20):
        with pytest.raises(RefusalError, match="permission denied") as caught:
            await lookups.caller(BOGUS)
        assert caught.value.code == 403
    assert vault.asked == 1
    clock.advance(REFUSED_SECONDS + 0.1)
    with pytest.raises(RefusalError):
        await lookups.caller(BOGUS)
    assert vault.asked == 2


async def test_refusals_displace_no_good_token(
    vault: CountingVault, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stint_api.auth.CACHE_SIZE", 3)
    lookups = Lookups(vault, monotonic=Clock())
    good = await (await make_bench(openbao)).token()
    await lookups.caller(good)
    for number in range(10):
        with pytest.raises(RefusalError):
            await lookups.caller(f"{BOGUS}-{number}")
    asked = vault.asked
    await lookups.caller(good)
    assert vault.asked == asked
    with pytest.raises(RefusalError):
        await lookups.caller(f"{BOGUS}-0")
    assert vault.asked == asked + 1


def test_no_more_is_remembered_than_fits() -> None:
    memory = Memory[int](Clock(), CACHE_SIZE)
    for number in range(CACHE_SIZE + 10):
        memory.put(str(number), number, 1.0)
    known = [number for number in range(CACHE_SIZE + 10) if memory.get(str(number)) is not None]
    assert known == list(range(10, CACHE_SIZE + 10))


async def test_nobody_is_told_where_the_services_reach_vault(nats: NatsProcess, bao_process: BaoProcess) -> None:
    async with api(nats.url, bao_process) as bench:
        shown = (await bench.limited_token(0), BOGUS, "", "no token")
        answers = [await bench.http.get("/v1/api/job/x", headers={"X-Auth-Token": token}) for token in shown]
        spent = {"cubby_token": BOGUS, "cubby_path": "cubbyhole/job", "payload": ""}
        answers.append(await bench.submit(**spent))
        await bao_process.kill()
        bench.clock.advance(CACHE_SECONDS + 1)
        answers += [await bench.http.get("/v1/api/job/x"), await bench.http.get("/readyz")]
    assert [answer.status_code for answer in answers] == [400, 403, 403, 403, 500, 503, 503]
    assert [answer.text for answer in answers if "://" in answer.text or str(bao_process.port) in answer.text] == []


async def test_while_bogus_tokens_wait_for_vault_others_go_on(nats: NatsProcess, openbao: OpenBao) -> None:
    async with AsyncExitStack() as stack:
        tarpit = Tarpit(openbao.address)
        port = await stack.enter_async_context(tarpit.listening())
        slow = OpenBao(f"http://127.0.0.1:{port}", openbao.root_token)
        bench = await stack.enter_async_context(api(nats.url, slow))
        await bench.submitted()
        asking = [asyncio.create_task(bench.status_with(f"{BOGUS}-{number}")) for number in range(100)]
        stack.callback(lambda: [task.cancel() for task in asking])
        await tarpit.full.wait()
        async with asyncio.timeout(5):
            job_id = await bench.submitted()
            assert (await bench.http.get(f"/v1/api/job/{job_id}")).status_code == 200
            assert (await bench.http.get("/readyz")).status_code == 200
