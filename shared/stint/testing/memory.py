"""The broker's ports in memory, for tests that need no server. They pass the same contract suite as JetStream."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from msgspec import structs

from stint.core.codec import encode, to_record
from stint.core.errors import LogGapError, UndecodableError
from stint.core.events import AnyEvent, Record, Submitted
from stint.core.job import Job, fold
from stint.core.names.streams import WORK
from stint.core.names.subjects import EventAddress, bar_kind, names_job, payload_subject, unreadable_submission
from stint.core.output.chain import Chunk
from stint.ports import BucketState, Outcome, Place, Stamp, StoredView, ViewPut

T = TypeVar("T")


class _Triggers(Generic[T]):
    """Sets the events of everyone who listens for this."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, tuple[T, Collection[str]]] = {}

    def fire(self, about: T, kind: str = "") -> None:
        for event, (wanted, kinds) in self._listeners.items():
            if wanted == about and (not kinds or kind in kinds):
                event.set()

    @asynccontextmanager
    async def listen(self, about: T, kinds: Collection[str] = ()) -> AsyncIterator[asyncio.Event]:
        event = asyncio.Event()
        self._listeners[event] = (about, kinds)
        try:
            yield event
        finally:
            del self._listeners[event]


class MemoryEventLog:
    """See `stint.ports.EventLog`.

    Attributes:
        records: all facts, in order.
        stored: their bodies, by subject.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.records: list[Record] = []
        self.stored: dict[str, bytes] = {}
        self._sequence = 0
        self._now = now
        self._live: _Triggers[str] = _Triggers()

    async def append(
        self, token: str, job_id: str, *events: AnyEvent, after: int | None = None, unless: str = ""
    ) -> Outcome:
        addresses = [EventAddress(event.kind, token, job_id) for event in events]
        if any(address.subject in self.stored for address in addresses):
            pairs = zip(addresses, events, strict=True)
            mine = all(self.stored.get(address.subject) == encode(event) for address, event in pairs)
            return Outcome.WON if mine else Outcome.LOST
        if after is not None and after != self._last_sequence(token, job_id):
            return Outcome.LOST
        if unless and EventAddress(unless, token, job_id).subject in self.stored:
            return Outcome.LOST
        for address, event in zip(addresses, events, strict=True):
            self.put(address, encode(event))
        return Outcome.WON

    def put(self, address: EventAddress, body: bytes) -> None:
        """Store any bytes, as a stranger with the right to publish could."""
        self._sequence += 1
        record = to_record(address, body, sequence=self._sequence, time=self._now().isoformat())
        self.stored[address.subject] = body
        self.records.append(record)
        self._live.fire(address.job_id, address.kind)

    async def bar(self, token: str, job_id: str, *, after: int) -> bool:
        if after != self._last_sequence(token, job_id):
            return False
        self.put(EventAddress(bar_kind(str(self._sequence)), token, job_id), b"")
        return True

    def _last_sequence(self, token: str, job_id: str) -> int:
        mine = (record.sequence for record in self.records if (record.token, record.job_id) == (token, job_id))
        return max(mine, default=0)

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:  # noqa: ARG002 - never behind
        mine = (record for record in self.records if record.job_id == job_id)
        return fold(record for record in mine if names_job(EventAddress(record.kind, record.token, job_id).subject))

    async def job_ids(self) -> AsyncIterator[str]:
        for record in list(self.records):
            if record.kind == Submitted.kind:
                yield record.job_id

    async def record_rejection(self, stream_sequence: int, event: AnyEvent) -> Outcome:
        address = unreadable_submission(WORK, stream_sequence)
        return await self.append(address.token, address.job_id, event)

    def follow(self, job_id: str, *kinds: str, token: str = "*") -> AbstractAsyncContextManager[asyncio.Event]:
        del token
        return self._live.listen(job_id, kinds)


class MemoryPayloads:
    """See `stint.ports.PayloadStore`."""

    def __init__(self, chunk_bytes: int = 512 * 1024, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._chunk_bytes = chunk_bytes
        self._chunks: dict[str, bytes] = {}
        self._stamps: dict[str, Stamp] = {}
        self._sequence = 0
        self._now = now

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        starts = range(0, len(sealed), self._chunk_bytes)
        for number, start in enumerate(starts):
            subject = payload_subject(token, job_id, number, attempt)
            if subject not in self._chunks:
                self._sequence += 1
                self._chunks[subject] = sealed[start : start + self._chunk_bytes]
                self._stamps[subject] = Stamp(self._sequence, self._now())
        return len(starts)

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        wanted = [payload_subject(token, job_id, number, attempt) for number in range(chunks)]
        found = [self._chunks[subject] for subject in wanted if subject in self._chunks]
        if len(found) < chunks:
            raise UndecodableError(f"The payload has {len(found)} of its {chunks} chunks.")
        return b"".join(found)

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        for subject, stamp in self._mine(token, job_id).items():
            if through is None or stamp.sequence <= through:
                del self._chunks[subject], self._stamps[subject]

    async def purge_all(self, places: Collection[Place]) -> None:
        for place in places:
            await self.purge(*place)

    async def places(self) -> set[Place]:
        return {Place(*subject.split(".")[1:3]) for subject in self._chunks}

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        return max(self._mine(token, job_id).values(), default=None)

    def _mine(self, token: str, job_id: str) -> dict[str, Stamp]:
        prefix = payload_subject(token, job_id, "")
        return {subject: stamp for subject, stamp in self._stamps.items() if subject.startswith(prefix)}


class MemoryOutput:
    """See `stint.ports.OutputLog`."""

    def __init__(self) -> None:
        self._chunks: defaultdict[tuple[str, str], list[Chunk]] = defaultdict(list)
        self._sequence = 0
        self._live: _Triggers[tuple[str, str]] = _Triggers()

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
        self._live.fire((token, job_id))
        return self._sequence

    async def last(self, token: str, job_id: str) -> Chunk | None:
        chunks = self._chunks[token, job_id]
        return chunks[-1] if chunks else None

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        return next((chunk for chunk in self._chunks[token, job_id] if chunk.sequence > after), None)

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        for chunk in list(self._chunks[token, job_id]):
            if chunk.sequence > after:
                yield chunk

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
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

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> int:  # noqa: ARG002 - nothing expires here
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

    async def page(self, *, after: int = 0) -> Sequence[StoredView]:
        views = sorted(self._views.values(), key=lambda stored: stored.revision)
        return [stored for stored in views if stored.revision > after]

    async def job_ids(self) -> frozenset[str]:
        return frozenset(self._views)

    async def state(self) -> BucketState:
        revisions = [stored.revision for stored in self._views.values()]
        return BucketState("", min(revisions, default=self._revision + 1), self._revision)

    @asynccontextmanager
    async def follow(self, *, after: int = 0) -> AsyncIterator[AsyncIterator[list[StoredView]]]:
        changes: asyncio.Queue[StoredView] = asyncio.Queue()
        self._followers.append(changes)
        try:
            known = sorted(self._views.values(), key=lambda stored: stored.revision)
            yield _then([stored for stored in known if stored.revision > after], changes)
        finally:
            self._followers.remove(changes)


async def _then(known: list[StoredView], changes: "asyncio.Queue[StoredView]") -> AsyncIterator[list[StoredView]]:
    if known:
        yield known
    while True:
        yield []
        yield [await changes.get()]
