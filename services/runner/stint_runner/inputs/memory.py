"""The memory that all jobs of a runner share while their containers are prepared."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()


class MemoryBudget:
    """Bytes that jobs share. A job that wants more than is free waits; first come, first served."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._size = size
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A share during the block, empty at first."""
        share = Share(self)
        try:
            yield share
        finally:
            share.shrink(0)

    async def take(self, wanted: int) -> int:
        """Wait for so many bytes, or for all there are, if that is less; returns how many."""
        granted = min(wanted, self._size)
        async with self._turn:
            if granted > self.free:
                log.info("waiting for memory that other jobs have", wanted=granted, free=self.free)
            while granted > self.free:
                self._freed.clear()
                await self._freed.wait()
            self.free -= granted
        return granted

    def give_back(self, size: int) -> None:
        """Free so many bytes for others."""
        self.free += size
        self._freed.set()


class Share:
    """What one job has of a budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    async def take(self, wanted: int) -> None:
        """Reserve so many bytes, once they are free."""
        self._size += await self._budget.take(wanted)

    def shrink(self, size: int) -> None:
        """Keep at most so many bytes."""
        freed = max(0, self._size - size)
        self._size -= freed
        self._budget.give_back(freed)
