"""The KV bucket `jobs`."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from stint.core.subjects import JOBS_BUCKET, kv_subject
from stint.jetstream.broker import Broker
from stint.jetstream.stream import Bucket, Write, is_literal
from stint.ports import StoredView, ViewPut
from stint.process.waiting import any_of

CATCH_UP_INTERVAL: Final = 0.5
"""Seconds between two reads if no trigger came: half of what a list may lag."""
CHECK_INTERVAL: Final = 2.0
"""Seconds between two checks whether the bucket is still the same, because a purge is not announced."""
BATCH_PAYS: Final = 16
"""Views from which on an atomic batch costs the server less than so many puts: a single server makes a directory with
files for each batch, 2.4 ms of CPU."""


class JetStreamViews:
    """See `stint.ports.ViewStore`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, JOBS_BUCKET)

    async def get(self, job_id: str) -> StoredView | None:
        entry = await self._bucket.read(job_id)
        return StoredView(*entry) if entry else None

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> int:
        return await self._bucket.write(job_id, value, revision=revision, ttl=_seconds(ttl))

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        if len(views) < BATCH_PAYS:
            puts = (self.put(view.job_id, view.value, revision=view.revision, ttl=view.ttl) for view in views)
            revisions = await asyncio.gather(*puts)
            return revisions if all(revisions) else []
        return await self._bucket.write_all(
            [Write(view.job_id, view.value, view.revision, _seconds(view.ttl)) for view in views]
        )

    async def delete(self, job_id: str) -> None:
        await self._bucket.delete(job_id)

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
            async for entry in self._bucket.entries(after=received.sequence):
                stored = StoredView(*entry)
                yield stored
                received.add(stored)
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


def _seconds(ttl: timedelta | None) -> float | None:
    return None if ttl is None else ttl.total_seconds()
