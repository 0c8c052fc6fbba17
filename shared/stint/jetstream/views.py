"""The KV bucket `jobs`."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from stint.core.subjects import JOBS_BUCKET, kv_stream, kv_subject
from stint.jetstream.broker import Broker
from stint.jetstream.protocol import (
    EXPECTED_SEQUENCE,
    ErrorCode,
    Stored,
    check,
    error_code,
    lifetime,
    sequence_of,
    subject_of,
)
from stint.jetstream.stream import Stream, is_literal
from stint.jetstream.topology import MARKER_TTL
from stint.ports import StoredView
from stint.process.waiting import any_of

CATCH_UP_INTERVAL: Final = 0.5
"""Seconds between two reads if no trigger came: half of what a list may lag."""
CHECK_INTERVAL: Final = 2.0
"""Seconds between two checks whether the bucket is still the same, because a purge is not announced."""

_OPERATION: Final = "KV-Operation"
_MARKER: Final = "Nats-Marker-Reason"
DELETED: Final = {_OPERATION: "DEL", **lifetime(MARKER_TTL)}
"""Headers of a deletion marker, which followers read and which then expires."""


class JetStreamViews:
    """See `stint.ports.ViewStore`.

    nats-py's `KeyValue` is not used: it reads from any replica, and its watch does not notice a purge.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bucket = Stream(broker, kv_stream(JOBS_BUCKET))

    async def get(self, job_id: str) -> StoredView | None:
        message = await self._bucket.last(kv_subject(JOBS_BUCKET, job_id))
        return _stored(message) if message else None

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> bool:
        headers = {EXPECTED_SEQUENCE: str(revision)}
        if ttl is not None:
            headers |= lifetime(ttl.total_seconds())
        answer = await self._broker.publish(kv_subject(JOBS_BUCKET, job_id), value, headers)
        if error_code(answer) == ErrorCode.WRONG_LAST_SEQUENCE:
            return False
        check(answer)
        return True

    async def delete(self, job_id: str) -> None:
        check(await self._broker.publish(kv_subject(JOBS_BUCKET, job_id), b"", DELETED))

    async def job_ids(self) -> frozenset[str]:
        held = self._bucket.subjects(kv_subject(JOBS_BUCKET, "*"))
        keys = [subject.rpartition(".")[2] async for subject in held]
        return frozenset(key for key in keys if is_literal(key))

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[StoredView | None]]:
        # A message published there may have been refused by the stream, so it is only a trigger for a read.
        async with self._broker.triggered(kv_subject(JOBS_BUCKET, ">")) as changed:
            yield self._changes(changed)

    async def _changes(self, changed: asyncio.Event) -> AsyncIterator[StoredView | None]:
        received, caught_up, check_at = _Received(await self._bucket.info()), False, 0.0
        while True:
            changed.clear()
            messages = await self._bucket.page(kv_subject(JOBS_BUCKET, ">"), after=received.sequence)
            for message in messages:
                stored = _stored(message)
                yield stored
                received.add(stored)
            if messages:
                continue
            if not caught_up:
                caught_up = True
                yield None
            if time.monotonic() >= check_at:
                if not received.agrees_with(await self._bucket.info()):
                    return
                check_at = time.monotonic() + CHECK_INTERVAL
            await any_of(changed, within=CATCH_UP_INTERVAL)


class _Received:
    """The views that a follower has received.

    Attributes:
        sequence: of the last message.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        """`info` is the stream's before anything was received."""
        self.sequence = 0
        self._created = info["created"]
        self._views: dict[str, int] = {}

    def add(self, stored: StoredView) -> None:
        """The oldest view stays the first one."""
        self.sequence = stored.revision
        self._views.pop(stored.job_id, None)
        if stored.value is not None:
            self._views[stored.job_id] = stored.revision

    def agrees_with(self, info: Mapping[str, Any]) -> bool:
        """False if views disappeared without a message: the bucket was created anew, or it was purged."""
        first, last = int(info["state"]["first_seq"]), int(info["state"]["last_seq"])
        if info["created"] != self._created or last < self.sequence:
            return False
        oldest = next(iter(self._views.values()), first)
        return oldest >= first or last > self.sequence


def _stored(message: Stored) -> StoredView:
    headers = message.headers or {}
    gone = _OPERATION in headers or _MARKER in headers
    return StoredView(
        job_id=subject_of(message).rpartition(".")[2],
        revision=sequence_of(message),
        value=None if gone else message.data,
    )
