"""A payload whose key was destroyed cannot be read, wherever a copy of it is: above all in a backup of NATS."""

import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from stint.core.errors import JobFailedError, StintError, UndecodableError, VaultDeniedError, VaultRefusedError
from stint.core.events import Submitted
from stint.core.job import Job
from stint.jetstream import Broker, JetStreamEventLog, JetStreamPayloads
from stint.vault import AppRoleSession, Vault
from stint.vault.erasure import PayloadKeys, decrypted, encrypted, key_name, key_of, new_key
from stint.vault.policies import KEYS, PUBLISHER
from stint.vault.setup import client_token
from stint_api.submit.key_sweeper import KeySweeper
from stint_runner.inputs.opening import DESTROYED, Opener
from tests.support.api_bench import Bench, api, secret, service_environ
from tests.support.brokers import connected, loaded
from tests.support.events import ended, utc_now
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, running
from tests.support.vault_bench import ROLE
from tests.support.waiting import until

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
        return PayloadKeys(self.vault, self.api)

    async def read(self, broker: Broker, job_id: str) -> str:
        """A job's command, as a runner would open it from this NATS."""
        job = await loaded(JetStreamEventLog(broker), job_id)
        stored = await _payload(broker, job)
        opener = Opener(vault=self.vault, session=self.runner, role=ROLE, role_id="", now=utc_now)
        ticket = await opener.ticket(_submitted(job).ticket, job)
        sealed = await opener.sealed(stored)
        opener.check_payload(sealed, ticket)
        opened = await opener.payload(sealed, "deploys")
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


def _submitted(job: Job) -> Submitted:
    event = job.fact(Submitted)
    assert event
    return event


async def _payload(broker: Broker, job: Job) -> bytes:
    event = _submitted(job)
    return await JetStreamPayloads(broker).get(job.token, job.job_id, event.payload_chunks, attempt=event.payload_try)


@asynccontextmanager
async def services(bench: Bench, openbao: OpenBao | BaoProcess) -> AsyncIterator[Services]:
    environ = await service_environ("", openbao)
    sessions = [
        AppRoleSession(bench.vault, environ[f"STINT_{name}_ROLE_ID"], environ[f"STINT_{name}_SECRET_ID"])
        for name in ("API", "RUNNER")
    ]
    yield Services(bench.vault, *sessions)
    for session in sessions:
        await session.close()


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
    erasure: str, tmp_path: Path, nats_process: NatsProcess, openbao: OpenBao
) -> None:
    """Without erasure it can, with the same rights: so it is the key that is missing."""
    async with api(nats_process.url, openbao, STINT_ERASURE=erasure) as bench, services(bench, openbao) as stint:
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


@pytest.mark.parametrize(
    ("over", "kept", "has_key"),
    [(False, True, True), (False, False, True), (True, True, True), (True, False, False)],
    ids=["waits", "lost its payload", "is over, its payload kept for later", "is over"],
)
async def test_a_key_lives_as_long_as_its_payload(
    over: bool, kept: bool, has_key: bool, nats_url: str, openbao: OpenBao
) -> None:
    async with api(nats_url, openbao) as bench, services(bench, openbao) as stint:
        job_id = await bench.submitted(**JOB)
        job = await bench.load(job_id)
        if over:
            await bench.parts.log.append(job.token, job_id, ended())
        if not kept:
            await bench.parts.payloads.purge(job.token, job_id)
        unknown = new_key(key_name(secrets.token_hex(12), "of-another-installation"))
        await stint.keys.store(unknown)
        await KeySweeper(keys=stint.keys, payloads=bench.parts.payloads, log=bench.parts.log).sweep()
        names = await stint.keys.names()
        assert (key_name(job_id, _submitted(job).event_id) in names) == has_key
        assert unknown.name in names


async def test_a_key_with_a_name_that_no_payload_gives_keeps_no_other_key_alive(
    nats_url: str, openbao: OpenBao
) -> None:
    """Publishers may make keys of any name. In Vault's list this one comes before those of the other job."""
    async with api(nats_url, openbao) as bench, services(bench, openbao) as stint:
        first, second = sorted([await bench.submitted(**JOB), await bench.submitted(**JOB)])
        for job_id in (first, second):
            job = await bench.load(job_id)
            await bench.parts.log.append(job.token, job_id, ended())
            await bench.parts.payloads.purge(job.token, job_id)
        publisher = await client_token(openbao.address, openbao.root_token, policies=(PUBLISHER,))
        path = f"/v1/{KEYS}/{first}-a..b"
        await bench.vault.call(publisher, lambda client: client.adapter.post(path, json={"key": ""}))
        await KeySweeper(keys=stint.keys, payloads=bench.parts.payloads, log=bench.parts.log).sweep()
        assert not [name for name in await stint.keys.names() if name.startswith(second)]


@pytest.mark.parametrize("erasure", ["on", "off"])
async def test_an_api_destroys_the_keys_that_became_due_while_none_ran(
    erasure: str, nats_url: str, openbao: OpenBao
) -> None:
    async with api(nats_url, openbao) as bench, services(bench, openbao) as stint:
        job = await bench.load(await bench.submitted(**JOB))
        await bench.parts.log.append(job.token, job.job_id, ended())
        await bench.parts.payloads.purge(job.token, job.job_id)
        name = key_name(job.job_id, _submitted(job).event_id)
        assert name in await stint.keys.names()
    async with api(nats_url, openbao, STINT_ERASURE=erasure) as bench, services(bench, openbao) as stint:
        if erasure == "on":
            await until(stint.keys.names, lambda names: name not in names)
        assert (bench.parts.keys is not None, name in await stint.keys.names()) == (erasure == "on", erasure == "off")


async def test_who_may_do_what_with_keys(nats_url: str, openbao: OpenBao) -> None:
    """The API makes and destroys keys, a runner reads them, a publisher makes them."""
    async with api(nats_url, openbao) as bench, services(bench, openbao) as stint:
        of_runner, key = PayloadKeys(bench.vault, stint.runner), new_key(key_name(secrets.token_hex(12), "x"))
        await stint.keys.store(key)
        assert await of_runner.load(key.name) == key
        publisher = await client_token(openbao.address, openbao.root_token, policies=(PUBLISHER,))
        paths = [f"{KEYS}/{secrets.token_hex(12)}-x", f"{KEYS}/{key.name}"]

        async def kept(value: object) -> str:
            """A publisher may store anything."""
            name, body = f"{secrets.token_hex(12)}-x", {"key": value}
            await bench.vault.call(publisher, lambda c: c.adapter.post(f"/v1/{KEYS}/{name}", json=body))
            return name

        for value in ("", "!", "YQ==", "\u00fc", None, 5):
            name = await kept(value)
            with pytest.raises(UndecodableError):
                await of_runner.load(name)
        await bench.vault.call(publisher, lambda c: c.adapter.post(f"/v1/{paths[0]}", json={"key": ""}))
        forbidden = [
            stint.keys.load(key.name),
            of_runner.store(key),
            of_runner.destroy(key.name),
            of_runner.names(),
            bench.vault.read(publisher, paths[0]),
            bench.vault.call(publisher, lambda c: c.adapter.post(f"/v1/{paths[1]}", json={"key": ""})),
        ]
        for attempt in forbidden:
            with pytest.raises(VaultDeniedError):
                await attempt
        await stint.keys.destroy(key.name)
        await stint.keys.destroy(key.name)
        assert await of_runner.load(key.name) is None


@pytest.mark.parametrize("change", [slice(0, 1), slice(20, 21), slice(-1, None)], ids=["head", "name", "text"])
def test_what_was_changed_does_not_fit_its_key(change: slice) -> None:
    key = new_key(key_name(secrets.token_hex(12), secrets.token_hex(16)))
    stored = encrypted(b"vault:v1:YQ==", key)
    assert (key_of(stored), decrypted(stored, key)) == (key.name, b"vault:v1:YQ==")
    assert encrypted(b"vault:v1:YQ==", key) == stored, "a repeated attempt stores the same"
    assert key_of(b"vault:v1:YQ==") == ""
    changed = bytearray(stored)
    changed[change] = bytes(byte ^ 1 for byte in changed[change])
    for other, with_key in ((bytes(changed), key), (stored, new_key(key.name))):
        with pytest.raises(StintError, match="does not fit"):
            decrypted(other, with_key)
