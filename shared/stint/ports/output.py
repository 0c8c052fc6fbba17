"""The port to the output of jobs."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stint.core.chain import Chunk
from stint.ports.history import Place


class OutputLog(Protocol):
    """The output of jobs, numbered and chained."""

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        """Append a chunk behind the one of sequence `after` (0 for the first); returns its sequence.

        Safe to repeat with the same chunk.

        Raises:
            LogGapError: the last chunk there is another one.
        """
        ...

    async def last(self, token: str, job_id: str) -> Chunk | None:
        """The last chunk."""
        ...

    def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """The chunks with sequence above `after`, in order, up to the last one there is now."""
        ...

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Set whenever there may be a new chunk, from now on. Read after entering, so that none is missed."""
        ...

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the output. Safe to repeat."""
        ...

    async def places(self) -> Collection[Place]:
        """Where there is output. What is stored or purged meanwhile may lack or be among them."""
        ...
