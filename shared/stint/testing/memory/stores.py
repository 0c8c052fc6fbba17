"""The stores in memory, and who listens to what is stored."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

from msgspec import structs

from stint.core.errors import LogGapError, PayloadMissingError
from stint.core.names.subjects import payload_subject
from stint.core.output.chain import Chunk
from stint.core.view import parse_time
from stint.ports import News, Place, Stamp, StoredView, StreamState, ViewPut

T = TypeVar("T")

_CHUNK_BYTES: Final = 512 * 1024


class Triggers(Generic[T]):
    """Gives the news to everyone who listens for this."""

    def __init__(self) -> None:
        self._listeners: dict[News, Collection[T]] = {}

    def fire(self, about: T, sequence: int) -> None:
        for news, wanted in self._listeners.items():
            if about in wanted:
                news.announce(sequence)

    @asynccontextmanager
    async def listen(self, *about: T) -> AsyncIterator[News]:
        news = News()
        self._listeners[news] = about
        try:
            yield news
        finally:
            del self._listeners[news]


class MemoryPayloads:
    """See `stint.ports.PayloadStore`."""

    may_lag = False

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._stored: dict[str, tuple[Stamp, bytes]] = {}
        self._sequence = 0
        self._now = now

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        starts = range(0, len(sealed), _CHUNK_BYTES)
        for number, start in enumerate(starts):
            subject = payload_subject(token, job_id, number, attempt)
            if subject not in self._stored:
                self._sequence += 1
                chunk = sealed[start : start + _CHUNK_BYTES]
                self._stored[subject] = Stamp(self._sequence, self._now()), chunk
        return len(starts)

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        wanted = [payload_subject(token, job_id, number, attempt) for number in range(chunks)]
        found = [self._stored[subject][1] for subject in wanted if subject in self._stored]
        if len(found) < chunks:
            raise PayloadMissingError(f"The payload has {len(found)} of its {chunks} chunks.")
        return b"".join(found)

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        for subject, stamp in self._mine(token, job_id).items():
            if through is None or stamp.sequence <= through:
                del self._stored[subject]

    async def purge_all(self, places: Collection[Place]) -> None:
        for place in places:
            await self.purge(*place)

    async def places(self) -> set[Place]:
        return {Place(*subject.split(".")[1:3]) for subject in self._stored}

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        return max(self._mine(token, job_id).values(), default=None)

    def _mine(self, token: str, job_id: str) -> dict[str, Stamp]:
        prefix = payload_subject(token, job_id, "")
        return {subject: stamp for subject, (stamp, _) in self._stored.items() if subject.startswith(prefix)}


class MemoryOutput:
    """See `stint.ports.OutputLog`."""

    may_lag = False

    def __init__(self) -> None:
        self._chunks: defaultdict[tuple[str, str], list[Chunk]] = defaultdict(list)
        self._sequence = 0
        self._live: Triggers[tuple[str, str]] = Triggers()

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        chunks = self._chunks[token, job_id]
        last = chunks[-1] if chunks else None
        if last is not None and (last.number, last.digest) == (chunk.number, chunk.digest):
            return last.sequence
        if after != (last.sequence if last else 0):
            raise LogGapError
        self._sequence += 1
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        chunks.append(structs.replace(chunk, sequence=self._sequence, time=now))
        self._live.fire((token, job_id), self._sequence)
        return self._sequence

    async def last(self, token: str, job_id: str) -> Chunk | None:
        chunks = self._chunks[token, job_id]
        return chunks[-1] if chunks else None

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        return next((chunk for chunk in self._chunks[token, job_id] if chunk.sequence > after), None)

    async def first_since(self, token: str, job_id: str, moment: datetime) -> Chunk | None:
        return next((chunk for chunk in self._chunks[token, job_id] if parse_time(chunk.time) >= moment), None)

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        for chunk in list(self._chunks[token, job_id]):
            if chunk.sequence > after:
                yield chunk

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen((token, job_id))

    async def purge(self, token: str, job_id: str) -> None:
        self._chunks.pop((token, job_id), None)

    async def places(self) -> AsyncIterator[set[Place]]:
        yield {Place(*place) for place, chunks in self._chunks.items() if chunks}


class MemoryViews:
    """See `stint.ports.ViewStore`. Keys expire when they are told to."""

    deletions_kept = float("inf")

    def __init__(self) -> None:
        self._views: dict[str, StoredView] = {}
        self._revision = 0
        self._followers: list[asyncio.Queue[StoredView]] = []

    async def get(self, job_id: str) -> StoredView | None:
        return self._views.get(job_id)

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: float | None) -> int:  # noqa: ARG002 - nothing expires here
        return self._write(job_id, value) if self._is_at(job_id, revision) else 0

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        if not all(self._is_at(view.job_id, view.revision) for view in views):
            return []
        return [self._write(view.job_id, view.value) for view in views]

    def _is_at(self, job_id: str, revision: int) -> bool:
        current = self._views.get(job_id)
        return revision == (current.revision if current else 0)

    async def delete(self, job_id: str) -> None:
        self._write(job_id, None)

    def expire(self, job_id: str) -> None:
        """Forget a key, as when its time and that of its deletion's marker are over."""
        self._views.pop(job_id, None)

    def _write(self, job_id: str, value: bytes | None) -> int:
        self._revision += 1
        self._views[job_id] = StoredView(job_id=job_id, revision=self._revision, value=value)
        for changes in self._followers:
            changes.put_nowait(self._views[job_id])
        return self._revision

    async def page(self, *, after: int = 0) -> list[StoredView]:
        views = sorted(self._views.values(), key=lambda stored: stored.revision)
        return [stored for stored in views if stored.revision > after]

    async def job_ids(self) -> frozenset[str]:
        return frozenset(self._views)

    async def state(self) -> StreamState:
        revisions = [stored.revision for stored in self._views.values()]
        return StreamState("1970-01-01T00:00:00Z", min(revisions, default=self._revision + 1), self._revision)

    @asynccontextmanager
    async def follow(self, *, after: int = 0) -> AsyncIterator[AsyncIterator[list[StoredView]]]:
        changes: asyncio.Queue[StoredView] = asyncio.Queue()
        self._followers.append(changes)
        try:
            yield _then(await self.page(after=after), changes)
        finally:
            self._followers.remove(changes)


async def _then(known: list[StoredView], changes: "asyncio.Queue[StoredView]") -> AsyncIterator[list[StoredView]]:
    if known:
        yield known
    while True:
        yield []
        page = [await changes.get()]
        while not changes.empty():
            page.append(changes.get_nowait())
        yield page
