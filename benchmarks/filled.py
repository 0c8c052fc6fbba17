"""Fills a stack's streams with many jobs, as if it had run for weeks; faster than running them."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client
from nats.js.api import Header, StreamState
from tests.support import events
from tests.support.waiting import until

from stint.core.codec import encode
from stint.core.events import AnyEvent, Ended, Launched, Started, Submitted
from stint.core.job import fold
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, JOBS_BUCKET, PROJECTOR_DURABLE, WORK
from stint.core.names.subjects import EventAddress, kv_subject
from stint.core.view import view
from stint.jetstream import Access
from stint.process.environment import load
from stint.process.settings import Settings

WINDOW: Final = 200
"""Messages that are published at a time, in a batch: half of those that NATS lets wait for a stream."""
PATIENCE: Final = 120
"""Seconds that NATS may take for an answer."""
AT: Final = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
"""Jobs that ended long ago are not shown."""
TICKET: Final = secrets.token_urlsafe(288)
"""Not one that opens anything."""


def job_ids(count: int) -> list[str]:
    """Ids of jobs that never ran."""
    return [f"{number:012x}{secrets.token_hex(6)}" for number in range(count)]


def queue_of(number: int, queues: int) -> str:
    """The queue of a job, one after another."""
    return f"kept-{number % queues}"


def life(qname: str, *, over: bool = True) -> list[AnyEvent]:
    """The events of a job that succeeded, or that still waits. Their texts are as long as those of one that ran."""
    who = {"by": "token-stint-client", "by_accessor": secrets.token_hex(12), "by_address": "127.0.0.1"}
    submitted = Submitted(
        **_new(who),
        qname=qname,
        ticket="vault:v1:" + TICKET,
        payload_chunks=1,
        payload_bytes=231,
        payload_try=secrets.token_hex(4) + "-",
        request_digest=secrets.token_hex(32),
    )
    if not over:
        return [submitted]
    runner, image = {"by": "runner-1"}, "busybox"
    return [
        submitted,
        Started(**_new(runner), runner="runner-1", kill_grace=15.0, payload_sha256=secrets.token_hex(32), lease=30.0),
        Launched(
            **_new(runner),
            container_image=image,
            container_id=secrets.token_hex(32),
            image_id=f"sha256:{secrets.token_hex(32)}",
        ),
        Ended(
            **_new(runner),
            container_image=image,
            status="success",
            chunks=1,
            output_bytes=3,
            output_digest=secrets.token_hex(32),
            output_complete=True,
        ),
    ]


def _new(who: Mapping[str, str]) -> dict[str, Any]:
    return {"event_id": secrets.token_hex(16), "at": AT, **who}


def stored_events(job_id: str, qname: str, *, over: bool = True) -> Iterable[tuple[str, bytes]]:
    """Subject and body of each event of a job."""
    token = queue_token(qname)
    return [
        (EventAddress(kind=event.kind, token=token, job_id=job_id).subject, encode(event))
        for event in life(qname, over=over)
    ]


def stored_view(job_id: str, qname: str, sequence: int) -> tuple[str, bytes]:
    """Subject and body of the view of a job that succeeded."""
    token = queue_token(qname)
    records = [
        events.record(event, sequence + step, token=token, job_id=job_id) for step, event in enumerate(life(qname))
    ]
    job = fold(msgspec.structs.replace(record, time=AT) for record in records)
    assert job is not None  # noqa: S101 - it was submitted
    return kv_subject(JOBS_BUCKET, job_id), encode(view(job))


@asynccontextmanager
async def connected(env: Mapping[str, str], **options: Any) -> AsyncIterator[Client]:
    """A client of a stack's NATS, as a benchmark's own, that says nothing of connections that it loses."""
    access = Access.of(load(Settings, env))

    async def ignored(_error: Exception) -> None: ...

    options |= {"pending_size": 64 * 1024 * 1024, "error_cb": ignored}
    client = await nats.connect(access.servers, **access.options(), **options)
    try:
        yield client
    finally:
        await client.close()


async def publish(client: Client, stream: str, messages: Iterable[tuple[str, bytes]]) -> None:
    """Publish to a stream, many at a time; returns when all are stored."""
    info = await client.jetstream().stream_info(stream)
    store = _store_batch if info.config.allow_atomic else _store_each
    waiting = iter(messages)
    while batch := list(itertools.islice(waiting, WINDOW)):
        await store(client, batch)


async def _store_each(client: Client, batch: Sequence[tuple[str, bytes]]) -> None:
    await asyncio.gather(*(client.request(subject, body, timeout=PATIENCE) for subject, body in batch))


async def _store_batch(client: Client, batch: Sequence[tuple[str, bytes]]) -> None:
    """Atomically, because the server then writes to the disk once."""
    name, last = secrets.token_hex(8), len(batch)
    for number, (subject, body) in enumerate(batch, 1):
        headers = {Header.BATCH_ID.value: name, Header.BATCH_SEQUENCE.value: str(number)}
        if number < last:
            await client.publish(subject, body, headers=headers)
        else:
            headers[Header.BATCH_COMMIT.value] = "1"
            answer = await client.request(subject, body, headers=headers, timeout=PATIENCE)
            if b'"error"' in answer.data:
                raise RuntimeError(f"NATS refused a batch: {answer.data.decode()}")


async def caught_up(client: Client, seconds: float) -> None:
    """Wait until the projector has processed all events."""
    await until(
        lambda: client.jetstream().consumer_info(EVENTS, PROJECTOR_DURABLE),
        lambda info: not info.num_pending and not info.num_ack_pending,
        seconds=seconds,
    )


def events_of(ids: Sequence[str], queues: int, *, first: int = 0, over: bool = True) -> Iterator[tuple[str, bytes]]:
    """Subject and body of each event of these jobs, one after another in so many queues, from the `first` one on."""
    for number, job_id in enumerate(ids, first):
        yield from stored_events(job_id, queue_of(number, queues), over=over)


async def fill(client: Client, ids: Sequence[str], queues: int, seconds: float, *, first: int = 0) -> None:
    """Jobs that have ended, of which nothing is left in their queues, in the log and in the view."""
    before = (await client.jetstream().stream_info(WORK)).state.last_seq
    await publish(client, EVENTS, events_of(ids, queues, first=first))
    await in_work(client, lambda state: state.last_seq >= before + len(ids), seconds)
    await client.jetstream().purge_stream(WORK)
    await caught_up(client, seconds)


async def in_work(client: Client, good: Callable[[StreamState], bool], seconds: float) -> None:
    """Wait until the server has passed on submissions."""

    async def look() -> StreamState:
        return (await client.jetstream().stream_info(WORK)).state

    await until(look, good, seconds=seconds)
