"""A Vault that is sealed or stands still before, during and after a job's login."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stint.core.errors import VaultUnavailableError
from stint.core.events import Started
from stint.core.job import State
from stint.jetstream import Broker
from stint.vault import Vault
from stint.vault.answers import Login
from stint_runner import retry
from stint_runner.retry import MAYBE_SPENT
from tests.support.runner_bench import Bench, make_bench
from tests.support.servers import BaoProcess, OpenBao, running
from tests.support.vault_bench import PASSWORD

pytestmark = pytest.mark.soak

T = TypeVar("T")
TIMEOUT = 1.0
"""Seconds of each call: a server that stands still is noticed after them."""


class WatchedVault(Vault):
    """Says when a call found Vault away. Something happens behind some calls."""

    def __init__(self, address: str) -> None:
        super().__init__(address, timeout=TIMEOUT)
        self.missed = asyncio.Event()
        self.behind: Mapping[str, Callable[[], Awaitable[None]]] = {}

    async def call(self, token: str, request: Callable[[Any], Awaitable[T]], *, repeatable: bool = False) -> T:
        try:
            return await super().call(token, request, repeatable=repeatable)
        except VaultUnavailableError:
            self.missed.set()
            raise

    async def unwrap_secret_id(self, wrapping_token: str) -> str:
        secret_id = await super().unwrap_secret_id(wrapping_token)
        await self._then("unwrap")
        return secret_id

    async def login(self, role_id: str, secret_id: str) -> Login:
        login = await super().login(role_id, secret_id)
        await self._then("login")
        return login

    async def _then(self, call: str) -> None:
        if call in self.behind:
            await self.behind[call]()


class Outage:
    """Takes a Vault away and brings it back."""

    def __init__(self, server: BaoProcess, how: str) -> None:
        self._server = server
        self._vault = Vault(server.address)
        self.sealed = how == "sealed"

    async def begin(self) -> None:
        if self.sealed:
            await self._vault.call(self._server.root_token, lambda client: client.sys.seal())
        else:
            self._server.pause()

    async def end(self) -> None:
        if self.sealed:
            key = await self._server.unseal_key()
            await self._vault.call("", lambda client: client.sys.submit_unseal_key(key))
        else:
            self._server.resume()


@pytest.fixture(scope="module")
async def bao(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BaoProcess]:
    async with running(server := BaoProcess(tmp_path_factory.mktemp("bao"))):
        yield server


@pytest.fixture
async def vault(bao: BaoProcess) -> WatchedVault:
    return WatchedVault(bao.address)


@pytest.fixture
async def bench(broker: Broker, bao: BaoProcess, vault: WatchedVault, busybox: str, tmp_path: Path) -> Bench:
    bench = await make_bench(broker, OpenBao(bao.address, bao.root_token), busybox, tmp_path)
    bench.vault = vault
    return bench


@pytest.fixture(params=["sealed", "still"])
async def outage(request: pytest.FixtureRequest, bao: BaoProcess) -> AsyncIterator[Outage]:
    outage = Outage(bao, request.param)
    yield outage
    await outage.end()


async def with_secret(bench: Bench) -> str:
    payload = {"secret_refs": ["password@kv/data/demo.password"], "secret_file_type": "yaml"}
    return await bench.submit("cat /secrets.yml", payload=payload)


async def has_started(bench: Bench, job_id: str) -> bool:
    """Whether a call is the job's. Before, it is the runner's own login."""
    return (await bench.loaded(job_id)).fact(Started) is not None


async def test_before_its_login_a_job_waits_in_its_queue(bench: Bench, vault: WatchedVault, outage: Outage) -> None:
    job_id = await with_secret(bench)
    await outage.begin()
    async with bench.runner():
        await vault.missed.wait()
        assert (await bench.loaded(job_id)).state is State.QUEUED
        await outage.end()
        await bench.ends_well(job_id)
        assert PASSWORD in await bench.text(await bench.loaded(job_id))


async def test_a_runner_can_leave_while_a_job_awaits_vault(bench: Bench, vault: WatchedVault, outage: Outage) -> None:
    """The next one takes the job at once: it does not wait for the end of the lease of what was given back."""
    job_id = await bench.submit("true")
    await outage.begin()
    async with asyncio.timeout(20):
        async with bench.runner():
            await vault.missed.wait()
        assert (await bench.loaded(job_id)).state is State.QUEUED
        await outage.end()
        async with bench.runner("runner-2"):
            await bench.ends_well(job_id)


@pytest.mark.parametrize("call", ["unwrap", "login"])
async def test_a_job_in_its_login_waits_there(bench: Bench, vault: WatchedVault, outage: Outage, call: str) -> None:
    """Its wrapping token is spent: another try could not begin again."""
    job_id = await with_secret(bench)
    async with bench.runner():
        async with struck(bench, vault, outage, call, job_id):
            pass
        await outage.end()
        job, end = await bench.end(job_id)
        if call == "unwrap" and not outage.sealed and job.state is State.FAILED:
            # Vault went on with the login that nobody waited for any more, and its secret id is good for one.
            assert (end.reason, end.error) == ("secrets", MAYBE_SPENT)
            return
        assert job.state is State.SUCCESS
        assert PASSWORD in await bench.text(job)


@pytest.mark.parametrize("call", ["unwrap", "login"])
async def test_a_job_that_has_started_fails_when_vault_stays_away(
    bench: Bench, vault: WatchedVault, outage: Outage, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PATIENCE", 2 * TIMEOUT)
    job_id = await with_secret(bench)
    async with bench.runner():
        async with struck(bench, vault, outage, call, job_id), asyncio.timeout(60):
            job, end = await bench.end(job_id)
        assert (job.state, end.reason) == (State.FAILED, "secrets")
        assert "Vault" in end.error
        await outage.end()
        await bench.ends_well(await bench.submit("true"))


@asynccontextmanager
async def struck(bench: Bench, vault: WatchedVault, outage: Outage, call: str, job_id: str) -> AsyncIterator[None]:
    """The outage has begun behind that call of the job, and the next one has found it."""
    begun = asyncio.Event()

    async def begin() -> None:
        if await has_started(bench, job_id) and not begun.is_set():
            await outage.begin()
            begun.set()

    vault.behind = {call: begin}
    await begun.wait()
    vault.missed.clear()
    await vault.missed.wait()
    yield


async def test_a_running_job_and_its_end_do_not_need_vault(bench: Bench, vault: WatchedVault, outage: Outage) -> None:
    async with bench.runner(), asyncio.timeout(60):
        job_id = await bench.running("echo up; sleep 1; echo still up")
        await outage.begin()
        job, end = await bench.end(job_id)
        assert (job.state, end.return_code) == (State.SUCCESS, 0)
        assert await bench.text(job) == "up\nstill up\n"
        await vault.missed.wait()  # its token could not be revoked, and ends by itself
        await outage.end()
        await bench.ends_well(await bench.submit("true"))


@pytest.mark.parametrize("call", ["unwrap", "login"])
async def test_a_one_time_call_whose_answer_was_lost_is_no_alarm(bench: Bench, vault: WatchedVault, call: str) -> None:
    """Vault carried it out, and refuses its repeat."""
    job_id = await bench.submit("true")

    async def lose() -> None:
        if await has_started(bench, job_id):
            raise VaultUnavailableError

    vault.behind = {call: lose}
    async with bench.runner():
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "secrets")
    assert end.error == MAYBE_SPENT
