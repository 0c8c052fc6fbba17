"""What nats-py cannot send, but anybody else can: names and headers that are no text. Every reader goes on.

A header of a single byte is not among them: NATS 2.15.1 itself dies of it.
"""

import asyncio
import secrets
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, LOGS, PAYLOADS
from stint.core.names.subjects import event_filter, log_subject, payload_subject
from stint.core.phase import JobPhase
from stint.jetstream import Broker, EventFeed, JetStreamEventLog, JetStreamFacts, JetStreamHistory, JetStreamPhases
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import sequence_of
from stint.ports import PhaseReport, Place
from stint_projector.follower import job_of
from tests.support.brokers import happen
from tests.support.events import submitted
from tests.support.waiting import PATIENCE

TOKEN = queue_token("deploys")
JOB = "b" * 24
SUBJECT = f"ev.{JOB}.{TOKEN}.submitted".encode()
HEADERS = {
    "nothing": b"NATS/1.0",
    "no end": b"NATS/1.0\r\n",
    "status that is no text": b"NATS/1.0 \xff\xfe\xfd\r\n\r\n",
    "status": b"NATS/1.0 404 No Messages\r\n\r\n",
    "description that is no text": b"NATS/1.0 200 \xff\r\nA: b\r\n\r\n",
    "no text": b"NATS/1.0\r\n\xff: \xff\r\nA: \xff\r\n\r\n",
    "the stream's own": b"NATS/1.0\r\nNats-Sequence: x\r\nNats-Time-Stamp: never\r\nNats-Subject: ev\r\n\r\n",
    "swallows": b"NATS/1.0\r\nA: b",
    "a mark of a bucket": b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n",
    "spaces": b" " * 40,
}


async def send(url: str, subject: bytes, body: bytes = b"{}", *, headers: bytes = b"", reply: bytes = b"") -> None:
    """Publish these very bytes, and return once the server has read them."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    sizes = f"{len(headers)} {len(headers) + len(body)}" if headers else f"{len(body)}"
    line = b" ".join(filter(None, [b"HPUB" if headers else b"PUB", subject, reply, sizes.encode()]))
    writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n' + line + b"\r\n")
    writer.write(headers + body + b"\r\nPING\r\n")
    async with asyncio.timeout(PATIENCE):
        while (said := await reader.readline()) != b"PONG\r\n":
            assert not said.startswith(b"-ERR"), said
    writer.close()


async def read_by_all(broker: Broker) -> None:
    """All who read EVENTS read it to its end, and find the good job behind what was sent before."""
    good = "f" * 24
    await happen(broker, good, submitted())
    feed, seen = EventFeed(broker, secrets.token_hex(8)), set[str]()
    await feed.declare()
    async with asyncio.timeout(PATIENCE), aclosing(feed.batches()) as batches:
        while good not in seen:
            batch = await anext(batches)
            seen |= {job_of(event) for event in batch}
            await feed.ack(batch)
    log = JetStreamEventLog(broker)
    assert good in [job_id async for job_id in log.job_ids()]
    pages = [page async for page in JetStreamFacts(broker).pages(after=0)]
    assert good in {record.job_id for page in pages for record in page.records}
    history = JetStreamHistory(broker)
    assert good in {place.job_id for place in await history.survey([good, JOB])}
    assert await log.load(good)
    await log.load(JOB, at_least=2**62)
    async with asyncio.timeout(PATIENCE):
        while await history.strays() is None or good not in {place.job_id for place in await history.in_work()}:
            pass  # a question to the server each


@pytest.mark.parametrize("case", HEADERS)
async def test_headers_that_are_none(broker: Broker, nats_url: str, case: str) -> None:
    await send(nats_url, SUBJECT, headers=HEADERS[case])
    await read_by_all(broker)


@pytest.mark.parametrize("job_id", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\x00", b"\xe2\x80\xae" + b"a" * 21])
async def test_subjects_that_are_no_text(broker: Broker, nats_url: str, job_id: bytes) -> None:
    for kind in (b"submitted", b"ended"):
        await send(nats_url, b"ev.%s.%s.%s" % (job_id, TOKEN.encode(), kind))
    await read_by_all(broker)


async def held(stream: Stream) -> int:
    return int((await stream.info())["state"]["messages"])


async def test_what_no_filter_can_name_goes_once_it_is_old_and_first(broker: Broker, nats_url: str) -> None:
    """Only then: a stream of events lets nobody remove a single message, and what is older is of a job that waits."""
    history, later = JetStreamHistory(broker), datetime.now(UTC) + timedelta(days=1)
    events, others = Stream(broker, EVENTS), [Stream(broker, stream) for stream in (PAYLOADS, LOGS)]
    for older in (payload_subject(TOKEN, JOB, 0), log_subject(TOKEN, JOB)):  # another queue is not in the way
        await broker.publish(older, b"")
    for subject in (b"ev.\xff.me.submitted", b"ev.%s.\xff.ended" % JOB.encode(), b"pl.me.\xff.0", b"log.me.\xff"):
        await send(nats_url, subject)
    for wildcard in "*>":
        await broker.publish(event_filter("submitted", "me", wildcard), b"")
        await broker.publish(event_filter(wildcard, "me", JOB), b"")
        await broker.publish(payload_subject("me", wildcard, 0), b"")
        await broker.publish(log_subject("me", wildcard), b"")
    await happen(broker, JOB, submitted())
    await send(nats_url, b"ev.\xfe.me.submitted")
    await history.forget_unnamed(datetime.now(UTC) - timedelta(days=1))
    assert [await held(stream) for stream in (events, *others)] == [8, 4, 4]
    await history.forget_unnamed(later)
    assert [await held(stream) for stream in (events, *others)] == [2, 1, 1]
    assert [sequence_of(message) async for page in events.pages() for message in page] == [7, 8]
    await history.forget(JOB, before=later)
    await history.forget_unnamed(later)
    assert [message async for page in events.pages() for message in page] == []


@pytest.mark.parametrize(
    ("subject", "more"),
    [
        (b"phase.\xff.me", {}),
        (b"phase.a.me", {"reply": b"\xff"}),
        *((b"phase.a.me", {"headers": headers}) for headers in HEADERS.values()),
    ],
)
async def test_what_is_only_heard(broker: Broker, nats_url: str, subject: bytes, more: dict[str, bytes]) -> None:
    """Such as phases, which a pool's runner tells to all APIs, and requests for output, which a publisher sends."""
    async with JetStreamPhases(broker).hear() as reports, asyncio.timeout(PATIENCE):
        await send(nats_url, subject, **more)
        await send(nats_url, b"phase.b.me", b'{"phase":"running"}')
        assert await anext(reports) == PhaseReport(Place("me", "b"), JobPhase(phase="running"))
