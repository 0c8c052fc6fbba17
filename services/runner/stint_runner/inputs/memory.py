"""The memory that all jobs of a runner share while their containers are prepared."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from stint.process.budget import Budget

log = structlog.get_logger()


class MemoryBudget(Budget):
    """Bytes of memory."""

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A share during the block, empty at first."""
        share = Share(self)
        try:
            yield share
        finally:
            share.shrink(0)

    def _short(self, wanted: int) -> None:
        log.info("waiting for memory that other jobs have", wanted=wanted, free=self.free)


class Share:
    """What one job has of a budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.size = 0  # bytes

    async def take(self, wanted: int) -> None:
        """Reserve so many bytes, once they are free."""
        self.size += await self._budget.take(wanted)

    def shrink(self, size: int) -> None:
        """Keep at most so many bytes."""
        freed = max(0, self.size - size)
        self.size -= freed
        self._budget.give_back(freed)
