"""Bytes of something scarce, which many share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Bytes that many share. Who wants more than are free waits; first come, first served."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._size = size
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def part(self, wanted: int) -> AsyncIterator[None]:
        """Have so many bytes during the block, as `take`."""
        granted = await self.take(wanted)
        try:
            yield
        finally:
            self.give_back(granted)

    async def take(self, wanted: int) -> int:
        """Wait for so many bytes, or for all there are, if that is less; returns how many."""
        granted = min(wanted, self._size)
        async with self._turn:
            if granted > self.free:
                self._short(granted)
            while granted > self.free:
                self._freed.clear()
                await self._freed.wait()
            self.free -= granted
        return granted

    def give_back(self, size: int) -> None:
        """Free so many bytes for others."""
        self.free += size
        self._freed.set()

    def _short(self, wanted: int) -> None:
        """Called when somebody begins to wait."""
