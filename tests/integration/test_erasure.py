"""A payload whose key was destroyed cannot be read, wherever a copy of it is: above all in a backup of NATS."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from stint.core.errors import (
    JobFailedError,
    NoRoomError,
    StintError,
    TooLargeError,
    UndecodableError,
    VaultDeniedError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.core.job import Job
from stint.core.names.ids import queue_token
from stint.jetstream import Broker, JetStreamEventLog, JetStreamPayloads
from stint.ports import Outcome
from stint.vault import AppRoleSession, Vault, connections
from stint.vault.erasure import (
    PayloadKey,
    PayloadKeys,
    decrypted,
    encrypted,
    key_name,
    key_of,
    new_key,
    publishers_key_name,
)
from stint.vault.policies import KEYS, PUBLISHER, PUBLISHERS
from stint.vault.setup import client_token
from stint_api.submit.key_sweeper import TOO_MANY, KeySweeper
from stint_runner.inputs.opening import DESTROYED, Opener
from tests.support import submissions
from tests.support.api_bench import Bench, api, secret, service_environ
from tests.support.brokers import connected, loaded
from tests.support.events import ended, submitted, utc_now
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.vault_bench import ROLE
from tests.support.waiting import meanwhile, until

CANARY = secret()
JOB = {"payload": "", "container_image": "busybox", "run": ["echo", CANARY]}


@dataclass
class Services:
    """Everything that Stint's services may do in Vault."""

    vault: Vault
    api: AppRoleSession
    runner: AppRoleSession

    @property
    def keys(self) -> PayloadKeys:
        return PayloadKeys(self.api)

    async def read(self, broker: Broker, job_id: str) -> str:
        """A job's command, as a runner would open it from this NATS."""
        job = await loaded(JetStreamEventLog(broker), job_id)
        stored = await _payload(broker, job)
        opener = Opener(vault=self.vault, session=self.runner, role=ROLE, role_id="", now=utc_now)
        ticket = await opener.ticket(submissions.submitted(job).ticket, job)
        sealed = await opener.sealed(stored)
        opened = await opener.payload(sealed, ticket, "deploys")
        assert opened
        return opened.job.run[-1]

    async def force(self, stored: bytes) -> int:
        """Have Vault decrypt parts of the stored bytes, by each service; returns how often it refused."""
        _, _, rest = stored.partition(b"\n")
        refusals = 0
        for session in (self.api, self.runner):
            for text in (stored.decode("latin-1"), rest.decode("latin-1"), f"vault:v1:{rest.hex()}"):
                with pytest.raises((VaultDeniedError, VaultRefusedError)):
                    await self.vault.decrypt(await session.token(), ROLE, text)
                refusals += 1
        return refusals


@dataclass
class Team:
    """A publisher with an identity, and with no other right than the policy's."""

    vault: Vault
    token: str
    entity: str

    @classmethod
    async def new(cls, bench: Bench) -> "Team":
        token = await bench.logged_in(await bench.role_with(PUBLISHER))
        return cls(bench.vault, token, (await bench.vault.lookup_self(token)).entity_id)

    @property
    def folder(self) -> str:
        return f"{PUBLISHERS}{self.entity}/"

    async def store(self, name: str, value: object = "") -> str:
        """Make a key with this name in this mount, of any shape. Returns the name."""
        path = f"/v1/{KEYS}/{quote(name)}"
        await self.vault.call(self.token, lambda client: client.adapter.post(path, json={"key": value}))
        return name


def a_name(job_id: str = "", *, day: int = 0, folder: str = "") -> str:
    """A name that a payload can give, of so many days ago."""
    at = (utc_now() - timedelta(days=day)).isoformat()
    return folder + key_name(job_id or secrets.token_hex(12), msgspec.structs.replace(submitted(), at=at))


def name_of(job: Job) -> str:
    """Of the key of the job's payload."""
    return key_name(job.job_id, submissions.submitted(job))


def sweeper(bench: Bench, stint: Services, keys: PayloadKeys | None = None) -> KeySweeper:
    """The one under test. With `STINT_ERASURE=off` the API runs none of its own beside it."""
    return KeySweeper(keys=keys or stint.keys, payloads=bench.parts.payloads, log=bench.parts.log, now=utc_now)


async def swept(bench: Bench, stint: Services) -> None:
    """Sweep once, the API's own keys and those of publishers."""
    await sweeper(bench, stint).sweep()
    await sweeper(bench, stint).sweep_publishers()


async def over(bench: Bench) -> Job:
    """A job that has ended and has no payload any more."""
    job = await bench.load(await bench.submitted(**JOB))
    await bench.parts.log.append(job.token, job.job_id, ended())
    await bench.parts.payloads.purge(job.token, job.job_id)
    return job


async def _payload(broker: Broker, job: Job) -> bytes:
    event = submissions.submitted(job)
    return await JetStreamPayloads(broker).get(job.token, job.job_id, event.payload_chunks, attempt=event.payload_try)


@pytest.fixture(scope="module")
async def stint(openbao: OpenBao) -> AsyncIterator[Services]:
    environ, vault = await service_environ("", openbao), Vault(openbao.address)
    sessions = [
        AppRoleSession(vault, environ[f"STINT_{name}_ROLE_ID"], environ[f"STINT_{name}_SECRET_ID"])
        for name in ("API", "RUNNER")
    ]
    yield Services(vault, *sessions)
    for session in sessions:
        await session.close()


@pytest.fixture(scope="module")
async def off(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    """An API that destroys no keys by itself. Its tests come before those with `bench`, which would do so beside it."""
    async with api(nats.url, openbao, STINT_ERASURE="off") as bench:
        yield bench


@asynccontextmanager
async def restored(backup: Path, folder: Path) -> AsyncIterator[Broker]:
    """A fresh NATS on a copy of this backup."""
    shutil.copytree(backup, folder / "store")
    async with running(server := NatsProcess(folder)), connected(server.url) as broker:
        yield broker


async def backed_up(server: NatsProcess, folder: Path) -> Path:
    """A copy of its files."""
    await server.stop()
    shutil.copytree(server.data_dir / "store", folder)
    await server.start()
    return folder


@pytest.mark.parametrize("erasure", ["on", "off"])
async def test_a_deleted_job_cannot_be_read_from_a_backup(
    erasure: str, stint: Services, tmp_path: Path, nats_process: NatsProcess, openbao: OpenBao
) -> None:
    """Without erasure it can, with the same rights: so it is the key that is missing."""
    async with api(nats_process.url, openbao, STINT_ERASURE=erasure) as bench:
        job_id = await bench.submitted(**JOB)
        backup = await backed_up(nats_process, tmp_path / "backup")
        async with restored(backup, tmp_path / "before") as broker:
            assert await stint.read(broker, job_id) == CANARY
        await bench.broker.wait_connected()
        assert (await bench.http.delete(f"/v1/api/job/{job_id}")).status_code == 200
        async with restored(backup, tmp_path / "after") as broker:
            if erasure == "off":
                assert await stint.read(broker, job_id) == CANARY
                return
            with pytest.raises(JobFailedError, match=DESTROYED):
                await stint.read(broker, job_id)
            job = await loaded(JetStreamEventLog(broker), job_id)
            stored = await _payload(broker, job)
            assert b"vault:v" not in stored
            assert await stint.force(stored) == 6
        assert not [name for name in await stint.keys.names() if name.startswith(job_id)]


@pytest.mark.parametrize(("day", "stays"), [(-34, False), (-33, True), (0, True), (33, True), (34, False)])
async def test_a_key_stays_as_long_as_its_job_could_run(day: int, stays: bool, off: Bench, stint: Services) -> None:
    """It may belong to a submission that is under way, or to another installation. The day is a publisher's claim."""
    team = await Team.new(off)
    of_api, of_publisher = a_name(day=day), await team.store(a_name(day=day, folder=team.folder))
    await stint.keys.store(new_key(of_api))
    await swept(off, stint)
    assert (of_api in await stint.keys.names()) == stays
    assert (of_publisher in await stint.keys.names(team.folder)) == stays


async def test_what_no_payload_can_name_is_removed_from_a_publishers_folder(off: Bench, stint: Services) -> None:
    """A list is as Vault gives it: whatever it names can be removed."""
    names = [" ", " a", "a ", "+", "*", "a..b", "a#b", "a%b", "a%2fb", "a?b", "a\\b", "a:b", "\u2603", "y" * 9_000]
    job_id = secrets.token_hex(12)
    names += [f"{job_id}-x", f"2026-02-30-{job_id}-x", f"{a_name()}..", a_name(job_id.upper())]
    team = await Team.new(off)
    good = await team.store(a_name(folder=team.folder))
    for name in names:
        await team.store(team.folder + name)
    assert set(await stint.keys.names(team.folder)) == {good, *(team.folder + name for name in names)}
    await sweeper(off, stint).sweep_publishers()
    assert await stint.keys.names(team.folder) == [good]


async def test_a_publisher_keeps_no_key_alive_but_its_own(
    off: Bench, stint: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the three publishers that have a key of the same job, the one in the middle of Vault's list has too many."""
    job = await over(off)
    teams = sorted([await Team.new(off) for _ in range(3)], key=lambda team: team.entity)
    await stint.keys.store(new_key(name_of(job)))
    kept = [await team.store(team.folder + name_of(job)) for team in teams]
    for number in range(30):  # not a few long ones: OpenBao takes a second of a processor for a name of 30,000 bytes
        await teams[1].store(f"{teams[1].folder}{number}{'x' * 3000}")
    monkeypatch.setattr(connections, "LONGEST", 2**16)
    with capture_logs() as logs:
        await swept(off, stint)
    folder = f"{KEYS}/{teams[1].folder}"
    assert {"event": TOO_MANY, "log_level": "error", "folder": folder} in logs
    assert not [name for name in await stint.keys.names() if job.job_id in name]
    monkeypatch.undo()
    left = [name in await stint.keys.names(team.folder) for team, name in zip(teams, kept, strict=True)]
    assert left == [False, True, False]


async def test_what_fails_with_one_publishers_keys_keeps_no_others_alive(off: Bench, stint: Services) -> None:
    job = await over(off)
    first, last = sorted([await Team.new(off), await Team.new(off)], key=lambda team: team.entity)
    await last.store(last.folder + name_of(job))
    await first.store(a_name(folder=first.folder))

    class Keys(PayloadKeys):
        async def names(self, folder: str = "") -> Collection[str]:
            if folder == first.folder:
                raise VaultUnavailableError
            return await super().names(folder)

    await sweeper(off, stint, Keys(stint.api)).sweep_publishers()
    assert not await stint.keys.names(last.folder)


async def test_the_apis_keys_do_not_wait_for_those_of_publishers(off: Bench, stint: Services) -> None:
    name = name_of(await over(off))
    await stint.keys.store(new_key(name))

    class Keys(PayloadKeys):
        async def names(self, folder: str = "") -> Collection[str]:
            if folder:
                await asyncio.Event().wait()
            return await super().names(folder)

    async with meanwhile(sweeper(off, stint, Keys(stint.api)).run()):
        await until(stint.keys.names, lambda names: name not in names)


@pytest.mark.parametrize(
    ("is_over", "kept", "has_key"),
    [(False, True, True), (False, False, True), (True, True, True), (True, False, False)],
    ids=["waits", "lost its payload", "is over, its payload kept for later", "is over"],
)
async def test_a_key_lives_as_long_as_its_payload(
    is_over: bool, kept: bool, has_key: bool, bench: Bench, stint: Services
) -> None:
    job_id = await bench.submitted(**JOB)
    job = await bench.load(job_id)
    if is_over:
        await bench.parts.log.append(job.token, job_id, ended())
    if not kept:
        await bench.parts.payloads.purge(job.token, job_id)
    team = await Team.new(bench)
    of_publisher = await team.store(team.folder + name_of(job))
    await swept(bench, stint)
    assert (name_of(job) in await stint.keys.names()) == has_key
    assert (of_publisher in await stint.keys.names(team.folder)) == has_key


@pytest.mark.parametrize("why", ["full", "too large", "in doubt"])
async def test_a_job_that_is_not_stored_leaves_no_key(
    bench: Bench, stint: Services, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Whoever may submit could otherwise make so many that no list of them can be read. One in doubt needs its key."""
    begun, done, store, destroy = asyncio.Event(), [], PayloadKeys.store, PayloadKeys.destroy

    async def stored(keys: PayloadKeys, key: PayloadKey) -> None:
        begun.set()
        await store(keys, key)
        done.append("stored")

    async def destroyed(keys: PayloadKeys, name: str) -> None:
        done.append("destroyed")
        await destroy(keys, name)

    async def fails(*_arguments: object, **_options: object) -> Outcome:
        await begun.wait()  # the payload fails while Vault stores the key
        if why == "in doubt":
            return Outcome.UNKNOWN
        raise NoRoomError if why == "full" else TooLargeError("Too large.")

    await bench.submitted(**JOB)
    before = await stint.keys.names()
    place, method = (JetStreamPayloads, "put") if why == "full" else (JetStreamEventLog, "append")
    monkeypatch.setattr(place, method, fails)
    monkeypatch.setattr(PayloadKeys, "store", stored)
    monkeypatch.setattr(PayloadKeys, "destroy", destroyed)
    answer = await bench.submit(**JOB)
    assert answer.status_code == (413 if why == "too large" else 503)
    assert done == (["stored"] if why == "in doubt" else ["stored", "destroyed"])
    left = set(await stint.keys.names()) - set(before)
    assert len(left) == (why == "in doubt")


async def test_a_deleted_jobs_key_is_destroyed_in_its_publishers_folder_too(bench: Bench, stint: Services) -> None:
    """The publisher names its identity in the event. What it says there leads to no key of another job."""
    team, job_id = await Team.new(bench), secrets.token_hex(12)
    event = msgspec.structs.replace(submitted("deploys"), by_entity=team.entity, at=utc_now().isoformat())
    await bench.parts.log.append(queue_token("deploys"), job_id, event)
    own, other = publishers_key_name(job_id, event), publishers_key_name(secrets.token_hex(12), event)
    for name in (own, other):
        await team.store(name)
    assert (await bench.http.delete(f"/v1/api/job/{job_id}")).status_code == 200
    assert await stint.keys.names(team.folder) == [other]
    strange = msgspec.structs.replace(event, event_id="../x", by_entity=f"{team.entity}/../{team.entity}")
    await stint.keys.destroy_of(job_id, strange)
    assert await stint.keys.names(team.folder) == [other]


async def test_who_may_do_what_with_keys(bench: Bench, stint: Services, openbao: OpenBao) -> None:
    """The API makes and destroys keys, a runner reads them, a publisher makes them in the folder of its identity."""
    of_runner, key = PayloadKeys(stint.runner), new_key(a_name())
    await stint.keys.store(key)
    assert await of_runner.load(key.name) == key
    team, other = await Team.new(bench), await Team.new(bench)
    nobody = Team(bench.vault, await client_token(openbao.address, openbao.root_token, policies=(PUBLISHER,)), "")
    for value in ("", "!", "YQ==", "\u00fc", None, 5):
        malformed = await team.store(a_name(folder=team.folder), value)
        with pytest.raises(UndecodableError):
            await of_runner.load(malformed)
    name = await team.store(a_name(folder=team.folder))
    forbidden = [
        stint.keys.load(key.name),
        of_runner.store(key),
        of_runner.destroy(key.name),
        of_runner.names(),
        of_runner.names(team.folder),
        bench.vault.read(team.token, f"{KEYS}/{name}"),
        *(team.store(f"{place}{a_name()}") for place in ("", PUBLISHERS, other.folder, f"{team.folder}x/")),
        *(nobody.store(f"{place}{a_name()}") for place in ("", PUBLISHERS, "publishers//", other.folder)),
        team.store(name),  # there is one already
    ]
    for attempt in forbidden:
        with pytest.raises(VaultDeniedError):
            await attempt
    await stint.keys.destroy(key.name)
    await stint.keys.destroy(key.name)
    assert await of_runner.load(key.name) is None


@pytest.mark.parametrize("change", [slice(0, 1), slice(20, 21), slice(-1, None)], ids=["head", "name", "text"])
@pytest.mark.parametrize("folder", ["", f"{PUBLISHERS}{UUID(int=7)}/"], ids=["api", "publisher"])
def test_what_was_changed_does_not_fit_its_key(change: slice, folder: str) -> None:
    key = new_key(a_name(folder=folder))
    stored = encrypted(b"vault:v1:YQ==", key)
    assert (key_of(stored), decrypted(stored, key)) == (key.name, b"vault:v1:YQ==")
    assert encrypted(b"vault:v1:YQ==", key) == stored, "a repeated attempt stores the same"
    assert key_of(b"vault:v1:YQ==") == ""
    changed = bytearray(stored)
    changed[change] = bytes(byte ^ 1 for byte in changed[change])
    for other, with_key in ((bytes(changed), key), (stored, new_key(key.name))):
        with pytest.raises(StintError, match="does not fit"):
            decrypted(other, with_key)
