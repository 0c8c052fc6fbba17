"""What only a real server can show."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from stint.core.audit.operations import AnyOperation, Paused
from stint.core.codec import cloudevents
from stint.core.errors import (
    BrokerClosedError,
    BrokerRefusedError,
    BrokerUnavailableError,
    OtherLayoutError,
    TooLargeError,
)
from stint.core.events import EVENT_BYTES, AnyEvent, Record
from stint.core.job import State
from stint.core.names.headers import CHUNK_DIGEST, CHUNK_NUMBER, CHUNK_OFFSET, CHUNK_STREAM
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, JOBS_BUCKET, PAUSES_BUCKET, PAYLOADS, WORK, kv_stream
from stint.core.names.subjects import EventAddress, barrier_subject, event_address, log_subject
from stint.core.output.chain import Chain, Chunk
from stint.core.schema import asyncapi
from stint.jetstream import (
    Broker,
    JetStreamEventLog,
    JetStreamFacts,
    JetStreamHistory,
    JetStreamOperations,
    JetStreamOutput,
    JetStreamViews,
    Streams,
    declare,
    declare_when_possible,
)
from stint.jetstream.streams import bucket, consistency, topology
from stint.jetstream.streams.stream import Stream
from stint.jetstream.streams.topology import stream_configs
from stint.jetstream.wire.protocol import (
    ErrorCode,
    NoAnswerError,
    check,
    error_code,
    position_of,
    status_of,
    subject_of,
)
from stint.jetstream.wire.pulls import Inbox
from stint.ports import Outcome, StoredView
from stint_runner.retry import retry
from tests.support.brokers import connected, declare_anew, happen, loaded
from tests.support.events import TOKEN, deleted, ended, kill_requested, started, submitted
from tests.support.views import followed

JOB = "0123456789abcdef01234567"
GOLDEN = Path(__file__).parents[1] / "golden"


def job_id(number: int) -> str:
    return f"{number:024x}"


async def test_of_a_job_that_strangers_submit_to_many_queues_only_its_own_events_are_read(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The projector loads it with each batch of their events, and the views of others wait meanwhile."""
    await happen(broker, JOB, submitted(), started())
    for number in range(1100):
        await broker.publish(EventAddress("submitted", queue_token(f"queue-{number}"), JOB).subject, b"{}")
    await happen(broker, JOB, kill_requested())
    read: list[Msg] = []
    direct_get = Broker.direct_get

    async def counted(of: Broker, stream: str, request: Mapping[str, Any]) -> list[Msg]:
        read.extend(messages := await direct_get(of, stream, request))
        return messages

    monkeypatch.setattr(Broker, "direct_get", counted)
    job = await loaded(JetStreamEventLog(broker), JOB)
    assert (job.token, job.kill_requested, len(read)) == (TOKEN, True, 3)


async def test_a_deleted_stream_is_created_again_unless_jobs_would_run_that_must_not(broker: Broker) -> None:
    names = [PAYLOADS, EVENTS, kv_stream(PAUSES_BUCKET)]
    streams = Streams(broker)
    for name in names:
        await broker.api(f"STREAM.DELETE.{name}")
    with capture_logs() as logs:
        await retry(streams.look, on=BrokerRefusedError)  # just deleted, NATS can refuse it
    assert {entry["stream"] for entry in logs if entry["log_level"] == "error"} == set(names)
    assert not streams.whole
    answers = {name: await broker.api(f"STREAM.INFO.{name}") for name in names}
    assert [name for name, answer in answers.items() if "error" not in answer] == [PAYLOADS]
    await declare_anew(broker)
    await streams.look()
    assert streams.whole


async def test_a_deleted_stream_that_cannot_be_made_is_missing(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_arguments: object) -> NoReturn:
        raise BrokerUnavailableError

    streams = Streams(broker)
    await streams.look()
    assert streams.whole
    await broker.api(f"STREAM.DELETE.{PAYLOADS}")
    monkeypatch.setattr(topology, "_create", refuse)
    with pytest.raises(BrokerUnavailableError):
        await streams.look()
    assert not streams.whole


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize(("servers", "replicas", "warnings"), [(2, 1, 1), (1, 1, 0), (2, 3, 0)])
async def test_several_servers_without_copies_are_said(
    nats_url: str, servers: int, replicas: int, warnings: int
) -> None:
    async with connected(",".join([nats_url] * servers)) as client:
        with capture_logs() as logs:
            await declare(client, replicas)
    assert [entry.get("setting") for entry in logs].count("STINT_REPLICAS") == warnings


async def test_other_settings_are_left_alone_and_said(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = next(config for config in stream_configs(1) if config["name"] == PAYLOADS)
    await broker.api(f"STREAM.DELETE.{PAYLOADS}")
    await broker.api(f"STREAM.CREATE.{PAYLOADS}", theirs | {"max_bytes": 10_000_000, "deny_delete": False})
    await declare(broker)
    info = await broker.api(f"STREAM.INFO.{PAYLOADS}")
    assert info["config"]["deny_delete"] is False
    assert "deny_delete" in capsys.readouterr().out


async def test_streams_of_another_layout_end_the_process_with_a_sentence(broker: Broker) -> None:
    """A job that is appended to them would never reach its queue."""
    theirs = next(config for config in stream_configs(1) if config["name"] == WORK)
    await broker.api(f"STREAM.DELETE.{WORK}")
    check(await broker.api(f"STREAM.CREATE.{WORK}", theirs | {"metadata": {"stint.layout": "1"}}))
    with pytest.raises(OtherLayoutError):
        await declare_when_possible(broker)
    with pytest.raises(BrokerClosedError, match=r"The stream WORK was made by another version of Stint"):
        broker.check_open()


async def test_facts_are_write_once_in_the_broker_and_stay(broker: Broker) -> None:
    subject = EventAddress("submitted", TOKEN, JOB).subject
    await broker.publish(subject, b"first")
    assert error_code(await broker.publish(subject, b"second")) == ErrorCode.SUBJECT_TAKEN
    for headers in ({"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}, {"Nats-Expected-Last-Subject-Sequence": "0"}):
        assert (await broker.publish(subject, b"second", headers))["error"], headers
    message = await broker.api(f"STREAM.MSG.GET.{EVENTS}", {"last_by_subj": subject})
    assert message["message"]["seq"] == 1
    assert (await broker.api(f"STREAM.MSG.DELETE.{EVENTS}", {"seq": 1}))["error"]


async def test_an_oversized_message_is_refused_before_it_drops_the_connection(broker: Broker) -> None:
    log = JetStreamEventLog(broker)
    with pytest.raises(TooLargeError):
        await log.append(TOKEN, JOB, submitted("x" * 2_000_000))
    with pytest.raises(TooLargeError, match="maximum"):
        await log.append(TOKEN, JOB, submitted("x" * EVENT_BYTES))
    assert await log.append(TOKEN, JOB, submitted()) is Outcome.WON, "the connection is still there"


async def test_a_lagging_answer_is_not_believed(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JetStreamEventLog(broker)
    await log.append(TOKEN, JOB, submitted())
    await log.append(TOKEN, JOB, started())

    async def behind(_stream: str, _request: object) -> list[object]:
        return []

    monkeypatch.setattr(broker, "direct_get", behind)
    job = await loaded(log, JOB)
    assert job.runner == "runner-1"
    assert await log.load(job_id(9)) is None
    monkeypatch.undo()

    direct_get = broker.direct_get

    async def one_behind(stream: str, request: Mapping[str, object]) -> list[Msg]:
        return (await direct_get(stream, request))[:1]

    monkeypatch.setattr(broker, "direct_get", one_behind)
    behind_by_one, up_to_date = await log.load(JOB), await log.load(JOB, at_least=2)
    assert behind_by_one is not None
    assert up_to_date is not None
    assert (behind_by_one.sequence, up_to_date.sequence) == (1, 2)

    async def leader_behind(*_: object) -> Mapping[str, object]:
        monkeypatch.undo()  # it has the rest at the next question
        return {"state": {"subjects": {EventAddress("submitted", TOKEN, JOB).subject: 1}}}

    monkeypatch.setattr(Stream, "info", leader_behind)
    assert await log.load(JOB, at_least=2) == up_to_date, "what is older than what is known is to be proven"


async def test_what_comes_during_a_proof_of_absence_is_found(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JetStreamEventLog(broker)
    look = log._first_submission  # noqa: SLF001 - what comes between two requests

    async def overtaken(job_id: str) -> Record | None:
        found = await look(job_id)
        await log.append(TOKEN, job_id, submitted())
        return found

    monkeypatch.setattr(log, "_first_submission", overtaken)
    job = await loaded(log, JOB)
    assert job.state is State.QUEUED


@pytest.mark.parametrize("missing", ["submitted", "started"])
async def test_servers_that_disagree_deny_nothing_of_a_job(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """While two believe that they lead, one question may be answered by the one and the next by the other."""
    log, api = JetStreamEventLog(broker), broker.api
    await log.append(TOKEN, JOB, submitted())
    await log.append(TOKEN, JOB, started())

    async def left_behind(call: str, request: Mapping[str, Any] | None = None, wait: float | None = None) -> Any:
        if (request or {}).get("last_by_subj") == EventAddress(missing, TOKEN, JOB).subject:
            return {"error": {"err_code": ErrorCode.NO_MESSAGE}}
        return await api(call, request, wait)

    monkeypatch.setattr(broker, "api", left_behind)
    with pytest.raises(BrokerUnavailableError):
        await log.load(JOB, at_least=3)


async def test_the_messages_that_prove_an_absence_are_no_events(broker: Broker) -> None:
    log, stream = JetStreamEventLog(broker), Stream(broker, EVENTS)
    await stream.store(barrier_subject("first"))
    assert await log.append(TOKEN, JOB, submitted()) is Outcome.WON
    last = await stream.store(barrier_subject("last"))
    (page,) = [page async for page in JetStreamFacts(broker).pages(after=0)]
    assert ([record.job_id for record in page.records], page.operations, page.sequence) == ([JOB], [], last)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert [found async for found in JetStreamHistory(broker).older_than(tomorrow)] == [JOB]


async def test_an_unanswered_append_is_looked_up(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker stores the fact but all answers are lost: the outcome is read from the log."""
    monkeypatch.setattr(consistency, "ELECTION", 0.5)
    log = JetStreamEventLog(broker)
    publish = broker.publish

    async def lose_the_answer(*arguments: object) -> dict[str, object]:
        await publish(*arguments)  # type: ignore[arg-type]
        raise NoAnswerError

    async def lose_the_request(*_arguments: object) -> dict[str, object]:
        raise NoAnswerError

    monkeypatch.setattr(broker, "publish", lose_the_answer)
    assert await log.append(TOKEN, JOB, submitted()) is Outcome.WON
    assert await log.append(TOKEN, JOB, submitted()) is Outcome.LOST
    await publish(EventAddress("deleted", TOKEN, JOB).subject, b"nonsense")
    assert await log.append(TOKEN, JOB, deleted()) is Outcome.LOST
    monkeypatch.setattr(broker, "publish", lose_the_request)
    assert await log.append(TOKEN, JOB, started()) is Outcome.UNKNOWN


async def test_views_expire(broker: Broker) -> None:
    views = JetStreamViews(broker)
    async with followed(views) as changes:
        assert await anext(changes) is None
        await views.put(JOB, b"1", revision=0, ttl=1)
        stored, marker = await anext(changes), await anext(changes)
    assert stored is not None
    assert stored.value == b"1"
    assert marker is not None
    assert (marker.job_id, marker.value) == (JOB, None)


async def test_a_follower_continues_behind_what_it_knows(broker: Broker) -> None:
    views = JetStreamViews(broker)
    for number in range(3):
        await views.put(job_id(number), b"1", revision=0, ttl=None)
    async with views.follow(after=2) as pages:
        assert await anext(pages) == [StoredView(job_id(2), 3, b"1")]
        assert await anext(pages) == []
        await views.put(job_id(3), b"1", revision=0, ttl=None)
        await views.delete(job_id(0))
        told: list[StoredView] = []
        while len(told) < 2:
            told += await anext(pages)
    assert [(stored.job_id, stored.value) for stored in told] == [(job_id(3), b"1"), (job_id(0), None)]


async def test_more_than_one_page_is_followed(broker: Broker) -> None:
    views, count = JetStreamViews(broker), 2 * bucket.FOLLOWED + 1
    await asyncio.gather(*(views.put(job_id(number), b"1", revision=0, ttl=None) for number in range(count)))
    async with followed(views) as changes:
        told = [await anext(changes) for _ in range(count)]
        assert [stored and stored.revision for stored in told] == list(range(1, count + 1))
        assert await anext(changes) is None


async def test_a_follower_is_told_when_its_consumer_is_gone(broker: Broker) -> None:
    async with followed(JetStreamViews(broker)) as changes:
        assert await anext(changes) is None
        (name,) = (await broker.api(f"CONSUMER.NAMES.{kv_stream(JOBS_BUCKET)}"))["consumers"]
        await broker.api(f"CONSUMER.DELETE.{kv_stream(JOBS_BUCKET)}.{name}")
        with pytest.raises(BrokerUnavailableError):
            await anext(changes)


async def test_a_follower_is_told_of_messages_that_were_lost_on_their_way(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, receive = JetStreamViews(broker), Inbox.receive

    async def all_but_the_second(inbox: Inbox, message: Msg) -> None:
        if status_of(message) or position_of(message).number != 2:
            await receive(inbox, message)

    monkeypatch.setattr(Inbox, "receive", all_but_the_second)
    for number in range(3):
        await views.put(job_id(number), b"1", revision=0, ttl=None)
    async with followed(views) as changes:
        with pytest.raises(BrokerUnavailableError, match="lost on their way"):
            assert [await anext(changes) for _ in range(2)] == []


_HEADERS = {CHUNK_NUMBER: "1", CHUNK_OFFSET: "0", CHUNK_STREAM: "stdout", CHUNK_DIGEST: "0" * 64}


async def test_output_and_events_of_an_earlier_version_are_read_and_unknown_headers_ignored(broker: Broker) -> None:
    job, unknown = job_id(101), {"ce-specversion": "1.0", "Stint-Later": "x"}
    written = json.loads((GOLDEN / "output" / "0.1.json").read_bytes())
    headers, body = written["headers"], written["body"].encode()
    await broker.publish(log_subject(TOKEN, job), body, {**headers, **unknown})
    (chunk,) = [chunk async for chunk in JetStreamOutput(broker).read(TOKEN, job)]
    assert (chunk.number, chunk.offset, chunk.stream, chunk.digest, chunk.line) == (
        *(int(headers["Stint-Chunk"]), int(headers["Stint-Offset"]), headers["Stint-Stream"]),
        *(headers["Stint-Digest"], int(headers["Stint-Line"])),
    )
    assert Chain().add(chunk.data).digest == chunk.digest
    for kind in ("submitted", "started", "ended"):
        fact = (GOLDEN / "events" / "0.1-full" / f"{kind}.json").read_bytes()
        await broker.publish(EventAddress(kind, TOKEN, job).subject, fact, unknown)
    found = await loaded(JetStreamEventLog(broker), job)
    assert found.state is State.FAILED


async def test_what_a_stranger_writes_among_the_output_is_no_chunk(broker: Broker) -> None:
    strange = [
        {},
        {CHUNK_NUMBER: "1"},
        *(_HEADERS | {CHUNK_NUMBER: number} for number in ("x", "0", "-1", "9" * 20, "9" * 5000)),
        *(_HEADERS | {CHUNK_OFFSET: offset} for offset in ("-1", "9" * 4000)),
    ]
    for headers in strange:
        await broker.publish(log_subject(TOKEN, JOB), b"not a chunk", headers)
    found = [chunk async for chunk in JetStreamOutput(broker).read(TOKEN, JOB)]
    none = Chunk(number=0, offset=0, stream="", digest="", data=b"", sequence=0)
    assert found == [replace(none, sequence=sequence) for sequence in range(1, len(strange) + 1)]


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
async def test_each_event_has_the_headers_of_cloudevents_only_with_the_setting(broker: Broker, on: bool) -> None:
    operation, pause = job_id(1), Paused(event_id="p", at="2026-01-02T03:04:05Z")
    events: list[AnyEvent] = [submitted(), started(), ended("success"), deleted()]
    log = JetStreamEventLog(broker, as_cloudevents=on)
    assert await log.append(TOKEN, JOB, *events, after=0) is Outcome.WON
    await JetStreamOperations(broker, as_cloudevents=on).record(pause, operation, TOKEN)
    written: dict[EventAddress, AnyEvent | AnyOperation] = {
        EventAddress(event.kind, TOKEN, JOB): event for event in events
    }
    written[EventAddress(pause.kind, TOKEN, operation)] = pause
    (page,) = [page async for page in Stream(broker, EVENTS).pages()]
    found = {
        event_address(subject_of(message)): {
            name: text for name, text in (message.headers or {}).items() if name.startswith("ce-")
        }
        for message in page
    }
    assert found == {address: cloudevents(address, event) if on else {} for address, event in written.items()}
    read = await loaded(log, JOB)
    assert {kind: read.facts[kind].event for kind in read.facts} == {event.kind: event for event in events}


def test_the_contract_names_the_headers_of_cloudevents() -> None:
    address = EventAddress("started", TOKEN, "a" * 24)
    components = asyncapi("0")["components"]
    assert components["messages"]["started"]["traits"] == [{"$ref": "#/components/messageTraits/cloudevent"}]
    described = components["messageTraits"]["cloudevent"]["headers"]["properties"]
    assert cloudevents(address, started()).keys() == described.keys()
    assert cloudevents(address, started())["ce-source"] == f"/stint/queues/{TOKEN}"
