"""The output of jobs."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from stint.core.output.chain import Chunk
from stint.ports.news import News
from stint.ports.places import Place


class OutputLog(Protocol):
    """The output of jobs, numbered and chained."""

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        """Append a chunk after the one with sequence `after` (0 for the first); returns its sequence.

        Safe to repeat with the same chunk.

        Raises:
            LogGapError: the last stored chunk is a different one.
        """

    async def last(self, token: str, job_id: str) -> Chunk | None:
        """The last message, None if there is none. Its number is 0 if it is no chunk: anybody may write there."""

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        """The first message with a sequence above `after`, None if there is none; see `last`."""

    async def first_since(self, token: str, job_id: str, moment: datetime) -> Chunk | None:
        """The first message that was stored at that time or later, None if there is none yet; see `last`."""

    def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """The messages with a sequence above `after`, in order, up to the current last one; see `last`."""

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[News]:
        """News whenever there may be a new chunk. Read after entering, so that none is missed."""

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the output. Safe to repeat."""

    def places(self) -> AsyncIterator[Collection[Place]]:
        """The places with output, in parts. If there are changes meanwhile, some places may be omitted."""
