"""The view's bucket in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from stint.ports import StoredView, StreamState, ViewPut


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

    async def page(self, *, after: int = 0) -> list[StoredView]:
        views = sorted(self._views.values(), key=lambda stored: stored.revision)
        return [stored for stored in views if stored.revision > after]

    async def job_ids(self) -> frozenset[str]:
        return frozenset(self._views)

    async def state(self) -> StreamState:
        revisions = [stored.revision for stored in self._views.values()]
        return StreamState("", min(revisions, default=self._revision + 1), self._revision)

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
