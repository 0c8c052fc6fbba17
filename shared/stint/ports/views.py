"""The port to the views of jobs."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

import msgspec


class StoredView(msgspec.Struct, frozen=True, kw_only=True):
    """A view as the bucket holds it. `value` is None once the key was deleted or expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewStore(Protocol):
    """The KV bucket of views."""

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""
        ...

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> bool:
        """Write a view if the key is still at `revision` (0: has none). False if it is not."""
        ...

    async def delete(self, job_id: str) -> None:
        """Remove a view. Safe to repeat."""
        ...

    async def job_ids(self) -> Collection[str]:
        """Of which jobs there is a view, or was a moment ago."""
        ...

    def follow(self) -> AbstractAsyncContextManager[AsyncIterator[StoredView | None]]:
        """Every view there is, then None once, then every change.

        It ends where views may have gone without a word, as when the bucket was purged or made anew: follow again then.
        """
        ...
