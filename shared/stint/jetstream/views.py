"""The KV bucket `jobs`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from stint.eventlog import StoredView
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker
from stint.jetstream.eventlog import NO_MESSAGE, WRONG_LAST_SEQUENCE
from stint.jetstream.holdings import is_literal, subjects_held
from stint.jetstream.messages import EXPECTED_SEQUENCE, SUBJECT, Stored, lifetime, raw_message, sequence_of
from stint.jetstream.topology import MARKER_TTL
from stint.jetstream.triggers import triggered
from stint.subjects import JOBS_BUCKET, kv_stream, kv_subject

BATCH: Final = 256
"""Views that one read asks for."""
CATCH_UP_INTERVAL: Final = 0.5
"""Seconds between two looks for changes when no trigger came: half of what a list may lag."""

_STREAM: Final = kv_stream(JOBS_BUCKET)
_OPERATION: Final = "KV-Operation"
_MARKER: Final = "Nats-Marker-Reason"
DELETED: Final = {_OPERATION: "DEL", **lifetime(MARKER_TTL)}
"""Headers of a deletion: seen by those who follow, and gone by itself."""


class JetStreamViews:
    """See `stint.eventlog.ViewStore`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def get(self, job_id: str) -> StoredView | None:
        request = {"last_by_subj": kv_subject(JOBS_BUCKET, job_id)}
        answer = await self._broker.api(f"STREAM.MSG.GET.{_STREAM}", request)
        if error_code(answer) == NO_MESSAGE:
            return None
        return _stored(raw_message(check(answer)["message"]))

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> bool:
        headers = {EXPECTED_SEQUENCE: str(revision)}
        if ttl is not None:
            headers |= lifetime(ttl.total_seconds())
        answer = await self._broker.publish(kv_subject(JOBS_BUCKET, job_id), value, headers)
        if error_code(answer) == WRONG_LAST_SEQUENCE:
            return False
        check(answer)
        return True

    async def delete(self, job_id: str) -> None:
        check(await self._broker.publish(kv_subject(JOBS_BUCKET, job_id), b"", DELETED))

    async def clear(self) -> None:
        check(await self._broker.api(f"STREAM.PURGE.{_STREAM}"))

    async def job_ids(self) -> frozenset[str]:
        held = subjects_held(self._broker, _STREAM, kv_subject(JOBS_BUCKET, "*"))
        keys = [subject.rpartition(".")[2] async for subject in held]
        return frozenset(key for key in keys if is_literal(key))

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[StoredView | None]]:
        # What is published there was perhaps not accepted: it only tells when to look.
        async with triggered(self._broker, kv_subject(JOBS_BUCKET, ">")) as changed:
            yield self._changes(changed)

    async def _changes(self, changed: asyncio.Event) -> AsyncIterator[StoredView | None]:
        sequence, caught_up = 0, False
        while True:
            changed.clear()
            request = {"seq": sequence + 1, "next_by_subj": kv_subject(JOBS_BUCKET, ">"), "batch": BATCH}
            messages = await self._broker.direct_get(_STREAM, request)
            for message in messages:
                yield _stored(message)
                sequence = sequence_of(message)
            if messages:
                continue
            if not caught_up:
                caught_up = True
                yield None
            await _wait(changed, CATCH_UP_INTERVAL)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _stored(message: Stored) -> StoredView:
    headers = message.headers or {}
    gone = _OPERATION in headers or _MARKER in headers
    return StoredView(
        job_id=headers[SUBJECT].rpartition(".")[2],
        revision=sequence_of(message),
        value=None if gone else message.data,
    )
