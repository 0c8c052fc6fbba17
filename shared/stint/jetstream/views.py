"""The KV bucket `jobs`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from stint.core.names.streams import JOBS_BUCKET
from stint.core.names.subjects import is_literal, kv_subject
from stint.jetstream.streams.bucket import MARKER_TTL, Bucket
from stint.jetstream.wire.broker import Broker
from stint.ports import StoredView, StreamState, ViewPut

BATCH: Final = 250  # views in an atomic batch. NATS lets 400 messages wait for a stream
BATCH_PAYS: Final = 16
"""Views from which on an atomic batch costs the server less than so many puts: a single server makes a directory with
files for each batch, 2.4 ms of CPU."""


class JetStreamViews:
    """See `stint.ports.ViewStore`."""

    deletions_kept = float(MARKER_TTL)

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, JOBS_BUCKET)

    async def get(self, job_id: str) -> StoredView | None:
        entry = await self._bucket.read(job_id)
        return StoredView(*entry) if entry else None

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: float | None) -> int:
        return await self._bucket.write(job_id, value, revision=revision, ttl=ttl)

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        revisions: list[int] = []
        for start in range(0, len(views), BATCH):
            written = await self._put_batch(views[start : start + BATCH])
            if not written:
                return []
            revisions += written
        return revisions

    async def _put_batch(self, views: Sequence[ViewPut]) -> Sequence[int]:
        if len(views) < BATCH_PAYS:
            puts = (self.put(view.job_id, view.value, revision=view.revision, ttl=view.ttl) for view in views)
            revisions = await asyncio.gather(*puts)
            return revisions if all(revisions) else []
        return await self._bucket.write_all(views)

    async def delete(self, job_id: str) -> None:
        await self._bucket.delete(job_id)

    async def page(self, *, after: int = 0) -> Sequence[StoredView]:
        return [StoredView(*entry) for entry in await self._bucket.entry_page(after=after)]

    async def job_ids(self) -> frozenset[str]:
        held = self._bucket.counts(kv_subject(JOBS_BUCKET, "*"))
        keys = [subject.rpartition(".")[2] async for page in held for subject in page]
        return frozenset(key for key in keys if is_literal(key))

    async def state(self) -> StreamState:
        return await self._bucket.state()

    @asynccontextmanager
    async def follow(self, *, after: int = 0) -> AsyncIterator[AsyncIterator[list[StoredView]]]:
        async with self._bucket.follow(after=after) as pages:
            yield ([StoredView(*entry) for entry in page] async for page in pages)
