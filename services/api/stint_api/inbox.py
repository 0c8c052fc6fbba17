"""A bounded box between live messages and a reader that may be slow."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from stint_api.background import cancel

T = TypeVar("T")

SIZE: Final = 16
"""Messages kept for a slow client. Beyond that they are dropped, and read from the log instead."""


class Inbox(Generic[T]):
    """Takes messages as they come, keeps a few of them, and says when some were dropped."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._news = asyncio.Event()
        self._dropped = False
        self.closed = False

    @asynccontextmanager
    async def filled_from(self, *sources: AsyncIterator[Any], until: asyncio.Event) -> AsyncIterator[None]:
        """Take in what the sources yield during the block; closed when `until` is set."""
        tasks = [asyncio.create_task(self._fill(source)) for source in sources]
        tasks.append(asyncio.create_task(self._close_with(until)))
        try:
            yield
        finally:
            await cancel(*tasks)

    async def get(self, wait: float) -> T | None:
        """The next message. None after `wait` seconds without one, when some were dropped, or when closed."""
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            return None
        if self._items and not self.closed:
            return self._pop()
        self._dropped = False
        self._news.clear()
        return None

    def _pop(self) -> T:
        item = self._items.popleft()
        if not self._items and not self._dropped:
            self._news.clear()
        return item

    async def _fill(self, source: AsyncIterator[T]) -> None:
        async for item in source:
            if len(self._items) < SIZE:
                self._items.append(item)
            else:
                self._dropped = True
            self._news.set()

    async def _close_with(self, until: asyncio.Event) -> None:
        await until.wait()
        self.closed = True
        self._news.set()
