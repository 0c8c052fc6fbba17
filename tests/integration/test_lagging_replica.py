"""What is read in a cluster right after it was acknowledged, when the replica that answers does not have it yet."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from stint.client import Fact
from stint.core.audit.operations import Paused
from stint.core.audit.signature import KeyOwner
from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, SIGNERS_BUCKET, kv_stream
from stint.core.names.subjects import EventAddress
from stint.core.output.chain import Chunk
from stint.core.pause import Pause
from stint.jetstream import (
    Broker,
    EventSigner,
    JetStreamEventLog,
    JetStreamFacts,
    JetStreamKeyOwners,
    JetStreamOperations,
    JetStreamOutput,
    JetStreamPauses,
    JetStreamSignatures,
)
from stint.jetstream.streams.stream import Stream
from stint.publisher import PublishedJob
from stint.publisher import job as job_module
from stint_api.audit.index import AuditIndex
from stint_api.audit.table import Entry, WantedEntries
from tests.support import events
from tests.support.api_bench import BODY, api
from tests.support.brokers import loaded
from tests.support.events import TOKEN
from tests.support.outputs import Played
from tests.support.servers import OpenBao
from tests.support.waiting import meanwhile, until_there

PAUSE = Pause(who="ann", at="2026-01-02T03:04:05Z", reason="maintenance")


class Replica:
    """The server's direct gets as those of a replica: while it `lags`, it answers as it did the last time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lags, self.stream = False, ""  # in this one; in all by default
        answers: dict[tuple[str, str], list[Msg]] = {}
        direct_get = Broker.direct_get

        async def get(broker: Broker, stream: str, request: Mapping[str, Any]) -> list[Msg]:
            if not self.lags or self.stream not in {"", stream}:
                answers[stream, str(request)] = await direct_get(broker, stream, request)
            return answers[stream, str(request)]

        monkeypatch.setattr(Broker, "direct_get", get)
        monkeypatch.setattr(Broker, "several", True)


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Replica:
    return Replica(monkeypatch)


@pytest.fixture
def job_id() -> str:
    return secrets.token_hex(12)


async def test_a_job_has_its_newest_event(broker: Broker, replica: Replica, job_id: str) -> None:
    log = JetStreamEventLog(broker)
    await log.append(TOKEN, job_id, events.submitted())
    await loaded(log, job_id)
    await log.append(TOKEN, job_id, events.kill_requested())
    replica.lags = True
    behind, current = await loaded(log, job_id), await log.current(job_id)
    assert current is not None
    assert (behind.kill_requested, current.kill_requested) == (False, True)


async def test_a_repeated_submission_is_not_called_queued_once_its_job_is_deleted(
    nats_url: str, openbao: OpenBao, replica: Replica
) -> None:
    async with api(nats_url, openbao) as bench:
        key = secrets.token_hex(8)

        async def submitted() -> httpx.Response:
            return await bench.http.post("/v1/api/job", json=BODY, headers={"Idempotency-Key": key})

        (job_id,) = {(await submitted()).json()["_id"] for _ in range(2)}
        await bench.http.delete(f"/v1/api/job/{job_id}")
        replica.lags = True
        assert (await submitted()).status_code == 410


@pytest.mark.parametrize("suffix", ["/output", ""])
async def test_the_output_of_a_job_that_is_over_is_not_cut_short(
    nats_url: str, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A server that was frozen may believe for a moment that it still leads, and does not know what came since."""
    last, left = JetStreamOutput.last, 3

    async def frozen(output: JetStreamOutput, token: str, job_id: str) -> Chunk | None:
        nonlocal left
        left -= 1
        return stale if left >= 0 else await last(output, token, job_id)

    async with api(nats_url, openbao) as bench:
        job = Played(bench.broker, queue_token(BODY["qname"]), await bench.submitted())
        await job.begin(("stdout", b"begun, "))
        stale = await last(JetStreamOutput(bench.broker), job.token, job.job_id)
        await job.write(("stdout", b"and done"))
        await job.end()
        monkeypatch.setattr(JetStreamOutput, "may_lag", True)
        monkeypatch.setattr(JetStreamOutput, "last", frozen)
        answer = await bench.http.get(f"/v1/api/job/{job.job_id}{suffix}")
    assert "begun, and done" in answer.text


async def test_all_pauses_are_listed_and_none_that_was_ended(broker: Broker, replica: Replica) -> None:
    pauses, (ended, new) = JetStreamPauses(broker), (queue_token(name) for name in ("ended", "new"))
    await pauses.put(ended, PAUSE)
    assert list(await pauses.all()) == [ended]
    replica.lags = True
    await pauses.remove(ended)
    await pauses.put(new, PAUSE)
    assert list(await pauses.all()) == [new]


async def test_an_operation_and_a_signature_are_found(broker: Broker, replica: Replica, job_id: str) -> None:
    signer = EventSigner.new()
    operations, pause = JetStreamOperations(broker), Paused(event_id="p", at=PAUSE.at)
    signatures = JetStreamSignatures(broker, JetStreamKeyOwners(broker, signer.nkey))
    paused, submitted = EventAddress("paused", TOKEN, job_id), EventAddress("submitted", TOKEN, job_id)
    assert (await operations.read([paused]), await signatures.read([submitted])) == ({}, {})
    replica.lags = True
    await operations.record(pause, job_id, TOKEN)
    await JetStreamEventLog(broker, signer).append(TOKEN, job_id, events.submitted())
    assert list(await operations.read([paused])) == [paused]
    assert list(await signatures.read([submitted])) == [submitted]


async def test_the_audit_finds_who_caused_the_first_event_of_a_key(broker: Broker, replica: Replica) -> None:
    """Its login has just named it."""
    owners, signer = JetStreamKeyOwners(broker), EventSigner.new()
    index = AuditIndex(JetStreamFacts(broker), owners, broker.wait_connected, span=1000, now=lambda: datetime.now(UTC))
    assert await owners.read([signer.nkey]) == {}
    await JetStreamEventLog(broker, signer).append(TOKEN, secrets.token_hex(12), events.submitted())
    replica.lags, replica.stream = True, kv_stream(SIGNERS_BUCKET)
    assert await owners.claim(signer.nkey, KeyOwner(owner="entity", who="ann"), ttl=60)

    async def found() -> Sequence[Entry] | None:
        with suppress(BrokerUnavailableError):  # the log is not read yet
            return await index.ask(lambda table: table.find(WantedEntries(who="ann"), 1))
        return None

    async with meanwhile(index.run()):
        assert [entry.signer for entry in await until_there(found)] == [signer.nkey]


async def test_it_is_known_whether_all_events_were_shown(broker: Broker, replica: Replica, job_id: str) -> None:
    facts, log = JetStreamFacts(broker), JetStreamEventLog(broker)
    await log.append(TOKEN, job_id, events.submitted())
    shown = [page.sequence async for page in facts.pages(after=0)][-1]
    assert [page.sequence async for page in facts.pages(after=shown)] == []
    replica.lags = True
    await log.append(TOKEN, job_id, events.started())
    last = (await facts.state()).last
    assert [page.sequence async for page in facts.pages(after=shown)] == []
    assert await facts.lacks(after=shown, through=last)
    assert not await facts.lacks(after=shown, through=shown)
    await Stream(broker, EVENTS).purge(EventAddress("started", TOKEN, job_id).subject)
    assert not await facts.lacks(after=shown, through=last), "what was removed is not missing"


async def test_a_publisher_asks_again_for_an_event_that_it_has_heard_of(
    broker: Broker, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, submitted = JetStreamEventLog(broker), events.submitted()
    await log.append(TOKEN, job_id, submitted)
    job = PublishedJob(broker, EventSigner(), events.QUEUE, job_id, submitted)
    direct_last, asked = broker.direct_last, []

    async def behind_twice(stream: str, subject: str) -> Msg | None:
        if subject.endswith(".rejected"):
            asked.append(message := await direct_last(stream, subject))
            return message if sum(map(bool, asked)) > 2 else None
        return await direct_last(stream, subject)

    monkeypatch.setattr(broker, "direct_last", behind_twice)
    monkeypatch.setattr(job_module, "LOOK", 60)
    async with job.heard():
        pass
    async with asyncio.timeout(30), aclosing(job.stream()) as items:
        assert isinstance(await anext(items), Fact)  # its submission: all else was looked for once
        await log.append(TOKEN, job_id, events.rejected())
        assert [item.kind async for item in items if isinstance(item, Fact)] == ["rejected"]
    assert len(asked) > 2
