"""A publisher with a key for its own queue: it submits, hears what becomes of its jobs, and gets nowhere else."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType

import nats.errors
import pytest

from stint.core.codec import decode_event
from stint.core.events import Ended, Submitted
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import JS_PREFIX, EventAddress, live_filter, tail_subject
from stint.core.submission.payload import JobPayload
from stint.jetstream import (
    Access,
    JetStreamEventLog,
    JetStreamKeyOwners,
    JetStreamOutput,
    JetStreamSignatures,
)
from stint.natsauth.keys import public_key
from stint.natsauth.roles import SEED_FILE
from stint.vault.setup import client_token
from tests.support import events
from tests.support.accounts import Accounts
from tests.support.outputs import Writer
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import ROLE, set_up

TEAM = "ci"
QUEUE = queue_token("deploys")


@pytest.fixture
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "publish.py"
    spec = importlib.util.spec_from_file_location("publish", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", {TEAM: ["deploys"]})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with accounts.declared(tmp_path / "nats") as server:
        yield server


Publish = Callable[[str], Awaitable[str]]


@pytest.fixture
async def publish(accounts: Accounts, server: NatsProcess, openbao: OpenBao, example: ModuleType) -> Publish:
    """Publishes a job to this queue, with the team's key; returns its id."""
    await set_up(openbao)
    token = await client_token(openbao.address, openbao.root_token, policies=["stint-publisher"])
    key = (accounts.folder / TEAM / SEED_FILE).read_text()
    access = Access(url=server.url, nkey=key, inbox=f"_INBOX.{TEAM}")

    async def published(queue: str) -> str:
        job = JobPayload(qname=queue, container_image="busybox", run=("true",))
        return str(await example.publish(access, openbao.address, token, job, ROLE))

    return published


async def test_a_publisher_submits_and_hears_what_becomes_of_its_job(
    accounts: Accounts, server: NatsProcess, publish: Publish
) -> None:
    async with (
        asyncio.timeout(30),
        accounts.connected(server.url, TEAM) as own,
        accounts.connected(server.url, "runner") as runner,
        own.subscribe(live_filter(Ended.kind, QUEUE)) as ends,
        own.subscribe(tail_subject(QUEUE, "*")) as output,
    ):
        await own.client.flush()
        job_id = await publish("deploys")
        log = JetStreamEventLog(runner)
        await log.append(QUEUE, job_id, events.started())
        await Writer(JetStreamOutput(runner), QUEUE, job_id).write(b"hello")
        await log.append(QUEUE, job_id, events.ended("success"))
        assert (await output.next_msg(timeout=20)).data == b"hello"
        assert (await ends.next_msg(timeout=20)).subject == live_filter(Ended.kind, QUEUE, job_id)
        subject = EventAddress(Ended.kind, QUEUE, job_id).subject
        message = await own.request(f"{JS_PREFIX}.DIRECT.GET.{EVENTS}.{subject}")
        ended = decode_event(Ended.kind, message.data)
    assert isinstance(ended, Ended)
    assert ended.status == "success"
    async with accounts.connected(server.url, "api") as api:
        submitted = EventAddress(Submitted.kind, QUEUE, job_id)
        signed = await JetStreamSignatures(api, JetStreamKeyOwners(api)).read([submitted])
    assert signed[submitted].by.nats_user == public_key(accounts.folder / TEAM)


async def test_another_queue_is_refused(accounts: Accounts, server: NatsProcess, publish: Publish) -> None:
    with pytest.raises(nats.errors.Error):
        await publish("releases")
    async with accounts.connected(server.url, "operator") as operator:
        info = await operator.api(f"STREAM.INFO.{EVENTS}")
    assert info["state"]["messages"] == 0
