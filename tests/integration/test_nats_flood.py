"""Floods of requests, and of messages that the disk cannot take: others do not wait behind all of them."""

import asyncio
import json
import secrets
import statistics
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from stint.core.names.headers import REFUSED
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, consumer_name
from stint.core.names.subjects import EventAddress, consumer_subject, output_subject
from stint.core.output.chain import Chunk
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput, JetStreamViews, serve_consumers, serve_output
from stint.jetstream.consuming import making
from stint.jetstream.consuming.consumers import create_consumer
from stint.jetstream.consuming.feed import BATCH
from stint.jetstream.output import OF_A_QUEUE
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import NoRespondersError
from stint.jetstream.wire.fair import AT_A_TIME
from stint.jetstream.wire.protocol import NoAnswerError
from stint.natsauth.command import BUFFERED
from stint.ports import Outcome, ViewPut
from tests.support import events
from tests.support.accounts import Accounts, Guarded
from tests.support.brokers import loaded
from tests.support.flood import flood
from tests.support.outputs import Writer
from tests.support.waiting import PATIENCE, meanwhile, until, until_true

OWN, OTHER = queue_token("own"), queue_token("other")
JOB = secrets.token_hex(12)
FLOOD = 5000


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", {"mallory": ["own"], "victim": ["other"]})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with accounts.declared(tmp_path / "nats") as server:
        yield server


async def asked(publisher: Broker, inbox: str, times: int) -> None:
    """Ask for output of its own queue, and wait for no answers."""
    for number in range(times):
        await publisher.send(output_subject(OWN, JOB, 0), reply=f"{inbox}.{number}")
    await publisher.client.flush()


async def test_a_flood_is_dropped_and_others_are_answered(server: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
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
        server.connected("api") as api,
        server.connected("runner") as runner,
        server.connected("victim") as victim,
        server.connected("mallory") as mallory,
        meanwhile(serve_output(api)),
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


async def test_one_pools_requests_keep_no_other_pool_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_create = asyncio.Event()

    async def create_later(broker: Broker, token: str, lease: float, *, in_memory: bool) -> dict[str, Any]:
        if token == OWN:
            await may_create.wait()
        return await create_consumer(broker, token, lease, in_memory=in_memory)

    async def made(pool: Broker, token: str, *, wait: float = PATIENCE) -> str:
        """The consumer that it was given, "" if no projector answered."""
        try:
            answer = await pool.request(consumer_subject(token), b'{"lease":30}', wait=wait)
        except (NoRespondersError, NoAnswerError):
            return ""
        return str(json.loads(answer.data)["name"])

    monkeypatch.setattr(making, "create_consumer", create_later)
    pools = Accounts(tmp_path / "keys", pools={"flooding": "own", "good": "other"})
    async with (
        pools.declared(tmp_path / "nats") as server,
        server.connected("projector") as projector,
        server.connected("flooding") as flooding,
        server.connected("good") as good,
        meanwhile(serve_consumers(projector, in_memory=True)),
    ):
        await until(lambda: made(good, OTHER))
        before = projector.client.stats["in_msgs"]
        for _ in range(FLOOD):
            await flooding.send(consumer_subject(OWN), b'{"lease":30}')
        await flooding.client.flush()
        await until_true(lambda: projector.client.stats["in_msgs"] >= before + FLOOD)
        assert await made(good, OTHER) == consumer_name(OTHER)
        assert await made(flooding, OWN, wait=1) == ""
        may_create.set()
        assert await until(lambda: made(flooding, OWN, wait=1)) == consumer_name(OWN)


PER_MINUTE = 600_000
"""Messages; a fast disk syncs some 200,000."""
APPENDS = 9
DROPPED = "Dropping messages due to excessive stream ingest rate"


@pytest.mark.soak
async def test_what_others_append_waits_for_few_messages_of_a_flood(server: Guarded) -> None:
    waited = []
    async with server.connected("api") as api, flood(server.access("mallory"), "own", per_minute=PER_MINUTE):
        log, stream = JetStreamEventLog(api), Stream(api, EVENTS)
        await until_true(lambda: DROPPED in server.log)
        for _ in range(APPENDS):
            job_id, before = secrets.token_hex(12), (await stream.info())["state"]["last_seq"]
            fact = events.submitted("other")
            while (outcome := await log.append(OTHER, job_id, fact)) is Outcome.UNKNOWN:
                pass  # the disk, or the processor, is busy with the flood
            assert outcome is Outcome.WON
            job = await loaded(log, job_id)
            waited.append(job.sequence - before)
    assert statistics.median(waited) < 10 * BUFFERED, "less than the server itself lets wait"


@pytest.mark.soak
async def test_the_views_of_a_pull_are_written_although_few_may_wait(server: Guarded) -> None:
    assert BATCH > BUFFERED
    async with server.connected("projector") as projector:
        views = JetStreamViews(projector)
        puts = [ViewPut(f"{number:024x}", b"{}", 0, 3600) for number in range(BATCH)]
        assert len(await views.put_all(puts)) == BATCH
    assert DROPPED not in server.log


@pytest.mark.soak
async def test_what_was_dropped_is_published_again(server: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint.jetstream.wire.broker.FULL", 60.0)  # such a flood drops nearly all
    async with server.connected("mallory") as own, flood(server.access("mallory"), "own", per_minute=PER_MINUTE):
        await until_true(lambda: DROPPED in server.log)
        for _ in range(APPENDS):
            subject = EventAddress("submitted", queue_token("own"), secrets.token_hex(12)).subject
            assert (await own.publish(subject, b"{}", wait=PATIENCE))["seq"]
