"""The views of jobs."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import NamedTuple, Protocol

from stint.ports.places import StreamState


class StoredView(NamedTuple):
    """An entry of the bucket. `value` is None if the key was deleted or has expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewPut(NamedTuple):
    """A view to be written if the key is still at `revision`; 0: the key does not exist. It expires after `ttl`."""

    job_id: str
    value: bytes
    revision: int
    ttl: timedelta | None


class ViewStore(Protocol):
    """The KV bucket of views.

    Attributes:
        deletions_kept: seconds for which the deletion or expiry of a key can be followed afterwards.
    """

    deletions_kept: float

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> int:
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
