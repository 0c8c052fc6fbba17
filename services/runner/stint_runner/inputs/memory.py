"""What all jobs of a runner may hold in memory together while their containers are made."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

log = structlog.get_logger()

PREPARE_MEMORY: Final = 512 * 2**20
"""Bytes."""


class MemoryBudget:
    """Bytes that jobs share. Whoever wants more than is free waits; first come, first served."""

    def __init__(self, size: int = PREPARE_MEMORY) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self._free

    @asynccontextmanager
    async def share(self, wanted: int) -> AsyncIterator["Share"]:
        """Have so many bytes for the duration of the block; all there are for whoever wants more than that."""
        granted = min(wanted, self._size)
        await self._take(granted)
        share = Share(self, granted)
        try:
            yield share
        finally:
            share.shrink(0)

    async def _take(self, wanted: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, turn))
        self._serve()
        if not turn.done():
            log.info("waiting for memory that other jobs have", wanted=wanted, free=self._free)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting = deque(found for found in self._waiting if found[1] is not turn)
                self._serve()
            else:  # it was granted in the same moment
                self.give_back(wanted)
            raise

    def give_back(self, size: int) -> None:
        """For others."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


class Share:
    """What one job has of a budget."""

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    def shrink(self, size: int) -> None:
        """Keep so many bytes at most."""
        freed = max(0, self._size - size)
        self._size -= freed
        self._budget.give_back(freed)
