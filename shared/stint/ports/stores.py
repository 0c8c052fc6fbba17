"""What is stored of jobs: sealed payloads and their copies, output, and views."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from stint.core.output.chain import Chunk
from stint.ports.common import News, Place, Stamp, StreamState


class PayloadStore(Protocol):
    """Sealed payloads, write-once, until the job has ended."""

    @property
    def may_lag(self) -> bool:
        """Whether what was stored may be missing for a moment where it is read."""

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        """Store a payload in chunks, apart from those of other attempts; returns their number. Safe to repeat."""

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        """The whole payload that this attempt stored.

        Raises PayloadMissingError if a chunk is missing, and UndecodableError if it cannot be a payload.
        """

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        """Remove the payload; with `through` only chunks up to that sequence. Safe to repeat."""

    async def purge_all(self, places: Collection[Place]) -> None:
        """Remove the payloads of these places, which may be many. Safe to repeat."""

    async def places(self) -> Collection[Place]:
        """The places with payloads, complete or not. Changes during the call may or may not be included."""

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        """The stamp of the last chunk at this place, None if there is none."""


class KeptPayloads(Protocol):
    """Sealed payloads that are kept for a time, apart from those that runners read."""

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:
        """Store a copy that expires after so many seconds. `digest` is its SHA-256 in hex. Safe to repeat."""

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        """The copy with this digest and so many bytes.

        Raises UndecodableError if it was not kept, has expired, or is not what its digest says.
        """

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the job's copies. Safe to repeat."""


class OutputLog(Protocol):
    """The output of jobs, numbered and chained."""

    @property
    def may_lag(self) -> bool:
        """Whether what was stored may be missing for a moment from what is said to be the last message."""

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        """Append a chunk after the one with sequence `after` (0 for the first); returns its sequence.

        Safe to repeat with the same chunk. Raises LogGapError if the last stored chunk is a different one.
        """

    async def last(self, token: str, job_id: str) -> Chunk | None:
        """The last message, None if there is none. Its number is 0 if it is no chunk: anybody may write there."""

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        """The first message with a sequence above `after`, None if there is none; see `last`."""

    async def first_since(self, token: str, job_id: str, moment: datetime) -> Chunk | None:
        """The first message that was stored at that time or later, None if there is none yet; see `last`."""

    def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """The messages with a sequence above `after`, in order, up to the current last one; see `last`."""

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[News]:
        """News whenever there may be a new chunk. Read after entering, so that none is missed."""

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the output. Safe to repeat."""

    def places(self) -> AsyncIterator[Collection[Place]]:
        """The places with output, in parts. If there are changes meanwhile, some places may be omitted."""


class StoredView(NamedTuple):
    """An entry of the bucket. `value` is None if the key was deleted or has expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewPut(NamedTuple):
    """A view to be written if its key is still at `revision`, 0 if there is none. It expires after `ttl` seconds."""

    job_id: str
    value: bytes
    revision: int
    ttl: float | None


class ViewStore(Protocol):
    """The KV bucket of views. The deletion or expiry of a key can be followed for `deletions_kept` seconds."""

    deletions_kept: float

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: float | None) -> int:
        """Write a view if the key is still at `revision`; returns its new revision, 0 if it is not. See `ViewPut`."""

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        """Write views of different jobs; returns their revisions.

        If one key is no longer at its revision, the result is empty, and the others are written or not.
        """

    async def delete(self, job_id: str) -> None:
        """Remove a view. Safe to repeat."""

    async def page(self, *, after: int = 0) -> Sequence[StoredView]:
        """The next entries with a revision above `after`, in this order. Empty at the end."""

    async def job_ids(self) -> Collection[str]:
        """The ids of the jobs that have a view, or had one a moment ago."""

    async def state(self) -> StreamState:
        """By which a follower notices that views disappeared without a message: by a purge, or with the bucket."""

    def follow(self, *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StoredView]]]:
        """The entries with a revision above `after`, page by page, and then every change.

        A page is empty whenever all that there is has been given; with NATS there is one at least once in a second. The
        iterator raises `BrokerUnavailableError` when it cannot continue. Then follow again, after the last revision.
        """
