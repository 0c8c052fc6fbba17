"""How an API answers requests for output: a flood of them costs it little, and keeps no other queue's from it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from stint.core.names.headers import REFUSED
from stint.core.names.ids import queue_token
from stint.core.names.subjects import output_subject
from stint.core.output.chain import Chunk
from stint.jetstream import Broker, JetStreamOutput, OutputRequests
from stint.jetstream.output_requests import AT_A_TIME, OF_A_QUEUE
from tests.support.accounts import Accounts
from tests.support.outputs import Writer
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, meanwhile, until_true

OWN, OTHER = queue_token("own"), queue_token("other")
JOB = secrets.token_hex(12)
FLOOD = 5000


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", {"mallory": ["own"], "victim": ["other"]})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with accounts.declared(tmp_path / "nats") as server:
        yield server


async def asked(publisher: Broker, inbox: str, times: int) -> None:
    """Ask for output of its own queue, and wait for no answers."""
    for number in range(times):
        await publisher.send(output_subject(OWN, JOB, 0), reply=f"{inbox}.{number}")
    await publisher.client.flush()


async def test_a_flood_of_requests_is_dropped_and_other_queues_are_answered(
    accounts: Accounts, server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, may_read, reading = JetStreamOutput.next, asyncio.Event(), 0
    answers: list[Msg] = []

    async def next_later(self: JetStreamOutput, token: str, job_id: str, *, after: int) -> Chunk | None:
        nonlocal reading
        reading += 1
        await may_read.wait()
        return await read(self, token, job_id, after=after)

    async def on_answer(message: Msg) -> None:
        answers.append(message)

    monkeypatch.setattr(JetStreamOutput, "next", next_later)
    async with (
        accounts.connected(server.url, "api") as api,
        accounts.connected(server.url, "runner") as runner,
        accounts.connected(server.url, "victim") as victim,
        accounts.connected(server.url, "mallory") as mallory,
        meanwhile(OutputRequests(api).run()),
    ):
        await Writer(JetStreamOutput(runner), OTHER, JOB).write(b"chunk")
        inbox = mallory.client.new_inbox()
        async with mallory.subscribe(f"{inbox}.*", cb=on_answer):
            await asked(mallory, inbox, FLOOD)
            await until_true(lambda: api.client.stats["in_msgs"] >= FLOOD)
            others = asyncio.create_task(victim.request(output_subject(OTHER, JOB, 0), wait=PATIENCE))
            await until_true(lambda: api.client.stats["in_msgs"] > FLOOD)
            assert reading == AT_A_TIME
            may_read.set()
            assert (await others).data == b"chunk"
            await until_true(lambda: len(answers) >= OF_A_QUEUE)
            again = await mallory.request(output_subject(OWN, JOB, 0))
            assert (again.headers or {})[REFUSED] == "There is no such chunk."
    assert len(answers) == OF_A_QUEUE
