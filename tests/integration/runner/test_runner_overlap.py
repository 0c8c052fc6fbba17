"""What a runner does at the same time for one job, and what is left if one of it fails."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest

from stint.core.errors import EngineError, JobFailedError, PayloadMissingError, VaultDeniedError
from stint.core.events import Launched, Started
from stint.core.job import State
from stint.core.names.headers import LABEL_JOB
from stint.jetstream import JetStreamPayloads
from stint.ports import Outcome
from stint.process.settings import RunnerSettings
from stint.vault import BUS_KEY, Ticket
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec, Progress, unheard
from stint_runner.inputs.content import Content, check_content
from stint_runner.inputs.memory import MemoryBudget
from stint_runner.inputs.opening import Opener
from stint_runner.job import prepare
from stint_runner.job.examine import CHUNK, MAX_CHUNKS, READS
from tests.api.archive import targz
from tests.support.accounts import write_policy
from tests.support.runner_bench import Bench
from tests.support.vault_bench import ROLE, as_root
from tests.support.waiting import until


class Watched(DockerEngine):
    """Tells when it has created a container. With `refuses` it creates none, once the job has logged in."""

    def __init__(self, refuses: asyncio.Event | None = None) -> None:
        super().__init__()
        self.created = asyncio.Event()
        self._refuses = refuses

    async def create(self, spec: ContainerSpec) -> str:
        if self._refuses:
            await self._refuses.wait()
            raise EngineError("No room.")
        container_id = await super().create(spec)
        self.created.set()
        return container_id


@dataclass
class Login:
    """A job's login, which waits for `go` and tells when it is `done`."""

    go: asyncio.Event
    fails: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: list[str] = field(default_factory=list)

    def put_into(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log_in = Opener.log_in

        async def waiting(opener: Opener, ticket: Ticket) -> str:
            await self.go.wait()
            if self.fails:
                raise JobFailedError("No.", reason="secrets", status="notauthorised")
            token = await log_in(opener, ticket)
            self.tokens.append(token)
            self.done.set()
            return token

        monkeypatch.setattr(Opener, "log_in", waiting)

    async def is_revoked(self, bench: Bench) -> bool:
        """Whether every token is."""
        found = await asyncio.gather(*map(bench.vault.lookup_self, self.tokens), return_exceptions=True)
        return all(isinstance(error, VaultDeniedError) for error in found)  # OpenBao answers 500 while it revokes one


async def test_a_container_is_removed_if_the_login_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Watched()
    Login(go=engine.created, fails=True).put_into(monkeypatch)
    async with bench.runner(engine=engine):
        job, end = await bench.end(job_id := await bench.submit("true"))
        assert (job.state, end.reason, Launched.kind in job.facts) == (State.NOTAUTHORISED, "secrets", False)
        await until(lambda: engine.find({LABEL_JOB: job_id}), lambda found: not found)


async def test_a_login_is_revoked_if_the_creation_besides_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    login = Login(go=asyncio.Event())
    login.go.set()
    login.put_into(monkeypatch)
    async with bench.runner(engine=Watched(refuses=login.done)):
        job, end = await bench.end(await bench.submit("true"))
        assert (job.state, end.reason, end.error) == (State.FAILED, "container", "Run container failed: No room.")
        await until(lambda: login.is_revoked(bench))


async def test_a_kill_during_both_leaves_neither_and_takes_no_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, login = Watched(), Login(go=asyncio.Event())
    login.put_into(monkeypatch)
    async with bench.runner(engine=engine, capacity=1):
        job_id = await bench.submit("true")
        await engine.created.wait()
        await bench.append_kill(job_id)
        job, end = await bench.end(job_id)  # at once, whatever Vault is still at
        assert (job.state, end.reason, Launched.kind in job.facts) == (State.FAILED, "killed", False)
        await until(lambda: engine.find({LABEL_JOB: job_id}), lambda found: not found)
        other = await bench.submit("true", queue="others")
        await bench.append_kill(other)
        assert (await bench.end(other))[1].reason == "killed"
        login.go.set()
        await login.done.wait()
        await until(lambda: login.is_revoked(bench))


async def test_a_claim_of_the_largest_payload_waits_for_no_pull(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = asyncio.Event()

    class Slow(DockerEngine):
        async def ensure_image(self, image: str, *, always: bool, progress: Progress = unheard) -> None:
            del image, always, progress
            await pulled.wait()

    async with bench.runner(engine=Slow()):
        payload = {"image_pull_policy": "Always", "content": targz({"tmp/f": "x"})}
        pulling = await bench.submit(queue="slow", payload=payload)
        await bench.until(pulling, "started")
        put = bench.payloads.put

        async def lie(token: str, job_id: str, sealed: bytes) -> int:
            await put(token, job_id, sealed)
            return MAX_CHUNKS

        with monkeypatch.context() as patch:
            patch.setattr(bench.payloads, "put", lie)
            claiming = await bench.submit(queue="greedy")
        await bench.ends_well(await bench.submit(queue="innocent"))
        assert "1 of its 128 chunks" in (await bench.end(claiming))[1].error
        pulled.set()
        await bench.ends_well(pulling)


@pytest.mark.parametrize("times", [3, pytest.param(1000, marks=pytest.mark.soak)])
async def test_a_payload_that_a_replica_lacks_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It keeps no memory meanwhile: others may need it, and the payload may never come."""
    get, take, free = bench.payloads.get, MemoryBudget.take, list[int]()
    full = RunnerSettings.model_fields["prepare_memory"].default

    async def watched(budget: MemoryBudget, wanted: int) -> int:
        free.append(budget.free)
        return await take(budget, wanted)

    async def lagging(token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        if len(free) <= times:
            raise PayloadMissingError("It is not there.")
        return await get(token, job_id, chunks, attempt=attempt)

    monkeypatch.setattr(MemoryBudget, "take", watched)
    monkeypatch.setattr(bench.payloads, "get", lagging)
    async with bench.runner():
        for may_lag in (False, True):
            monkeypatch.setattr(JetStreamPayloads, "may_lag", may_lag)
            free.clear()
            job, end = await bench.end(await bench.submit("true"))
            if may_lag and times < READS:
                assert (job.state, len(free)) == (State.SUCCESS, times + 1)
            else:
                assert (end.reason, end.error, len(free)) == ("payload", "It is not there.", 1 + READS * may_lag)
            assert set(free) == {full}, "before each reading"


async def test_a_payload_said_to_be_larger_keeps_no_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    append, left = bench.log.append, list[int]()

    async def lie(token: str, job_id: str, *events: Any, **condition: Any) -> Outcome:
        said = [msgspec.structs.replace(event, payload_bytes=MAX_CHUNKS * CHUNK) for event in events]
        return await append(token, job_id, *said, **condition)

    with monkeypatch.context() as patch:
        patch.setattr(bench.log, "append", lie)
        job_id = await bench.submit(payload={"content": targz({"tmp/f": "x"})})
    async with bench.runner(prepare_memory=2**28):
        memory = bench.runners["runner-1"].memory

        def noted(content: str) -> Content:
            left.append(memory.free)
            return check_content(content)

        monkeypatch.setattr(prepare, "check_content", noted)
        await bench.ends_well(job_id)
    assert [free > 2**28 - 2**20 for free in left] == [True]


async def test_a_payload_that_only_the_jobs_own_token_may_decrypt(bench: Bench) -> None:
    """As in GoStint's set-ups: the payload is opened after the login."""
    admin = partial(as_root, bench.openbao)

    async def with_policies(role: str, *policies: str) -> None:
        await admin(lambda client: client.auth.approle.create_or_update_approle(role, token_policies=list(policies)))

    for policy, key in (("tickets-only", BUS_KEY), ("payloads-too", ROLE)):
        await write_policy(bench.openbao, policy, {f"transit/decrypt/{key}": {"capabilities": ["update"]}})
    await with_policies("narrow-runner", "tickets-only")
    narrow = await admin(lambda client: client.auth.approle.read_role_id("narrow-runner"))
    secret = await admin(lambda client: client.auth.approle.generate_secret_id("narrow-runner"))
    jobs = await admin(lambda client: client.auth.approle.read_role(ROLE))
    bench.role_settings |= {
        "STINT_RUNNER_ROLE_ID": narrow["data"]["role_id"],
        "STINT_RUNNER_SECRET_ID": secret["data"]["secret_id"],
    }
    before = jobs["data"]["token_policies"]
    await with_policies(ROLE, *before, "payloads-too")
    try:
        async with bench.runner():
            await bench.ends_well(await bench.submit("true"))
            await with_policies(ROLE, *before)
            job, end = await bench.end(await bench.submit("true"))
            assert (job.state, end.reason, Started.kind in job.facts) == (State.FAILED, "payload", True)
            assert end.error.startswith("Failed to decrypt payload via vault: ")
    finally:
        await with_policies(ROLE, *before)
