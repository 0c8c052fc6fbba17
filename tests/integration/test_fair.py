"""Requests for output and for consumers: a flood of them costs little, and keeps no other queue's from an answer."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from stint.core.names.headers import REFUSED
from stint.core.names.ids import queue_token
from stint.core.names.streams import consumer_name
from stint.core.names.subjects import consumer_subject, output_subject
from stint.core.output.chain import Chunk
from stint.jetstream import Broker, ConsumerRequests, JetStreamOutput, OutputRequests
from stint.jetstream.consuming import making
from stint.jetstream.consuming.consumers import create_consumer
from stint.jetstream.output import OF_A_QUEUE
from stint.jetstream.wire.broker import NoRespondersError
from stint.jetstream.wire.fair import AT_A_TIME
from stint.jetstream.wire.protocol import NoAnswerError
from tests.support.accounts import Accounts
from tests.support.outputs import Writer
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, meanwhile, until, until_true

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


async def test_one_pools_requests_for_a_consumer_keep_no_other_pools_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_create = asyncio.Event()

    async def create_later(broker: Broker, token: str, lease: float, *, in_memory: bool) -> dict[str, Any]:
        if token == OWN:
            await may_create.wait()
        return await create_consumer(broker, token, lease, in_memory=in_memory)

    async def made(pool: Broker, token: str) -> str:
        """The consumer that it was given, "" if no projector answered."""
        try:
            answer = await pool.request(consumer_subject(token), b'{"lease":30}', wait=1)
        except (NoRespondersError, NoAnswerError):
            return ""
        return str(json.loads(answer.data)["name"])

    monkeypatch.setattr(making, "create_consumer", create_later)
    pools = Accounts(tmp_path / "keys", pools={"flooding": "own", "good": "other"})
    async with (
        pools.declared(tmp_path / "nats") as server,
        pools.connected(server.url, "projector") as projector,
        pools.connected(server.url, "flooding") as flooding,
        pools.connected(server.url, "good") as good,
        meanwhile(ConsumerRequests(projector, in_memory=True).run()),
    ):
        await until(lambda: made(good, OTHER))
        before = projector.client.stats["in_msgs"]
        for _ in range(FLOOD):
            await flooding.send(consumer_subject(OWN), b'{"lease":30}')
        await flooding.client.flush()
        await until_true(lambda: projector.client.stats["in_msgs"] >= before + FLOOD)
        assert await made(good, OTHER) == consumer_name(OTHER)
        assert await made(flooding, OWN) == ""
        may_create.set()
        assert await until(lambda: made(flooding, OWN)) == consumer_name(OWN)
