"""The port to the views of jobs."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

import msgspec


class StoredView(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the bucket. `value` is None if the key was deleted or has expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewStore(Protocol):
    """The KV bucket of views."""

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""
        ...

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> bool:
        """Write a view if the key is still at `revision` (0: the key does not exist). False if it is not."""
        ...

    async def delete(self, job_id: str) -> None:
        """Remove a view. Safe to repeat."""
        ...

    async def job_ids(self) -> Collection[str]:
        """The ids of the jobs that have a view, or had one a moment ago."""
        ...

    def follow(self) -> AbstractAsyncContextManager[AsyncIterator[StoredView | None]]:
        """Every existing view, then None once, then every change.

        Ends if views may have disappeared without a message, as when the bucket was purged or created anew. Then follow
        again.
        """
        ...
