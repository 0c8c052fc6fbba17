"""The output of jobs in memory."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from msgspec import structs

from stint.core.errors import LogGapError
from stint.core.output.chain import Chunk
from stint.core.view import parse_time
from stint.ports import News, Place
from stint.testing.memory.triggers import Triggers


class MemoryOutput:
    """See `stint.ports.OutputLog`."""

    def __init__(self) -> None:
        self._chunks: defaultdict[tuple[str, str], list[Chunk]] = defaultdict(list)
        self._sequence = 0
        self._live: Triggers[tuple[str, str]] = Triggers()

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        chunks = self._chunks[token, job_id]
        last = chunks[-1] if chunks else None
        if last is not None and (last.number, last.digest) == (chunk.number, chunk.digest):
            return last.sequence
        if after != (last.sequence if last else 0):
            raise LogGapError
        self._sequence += 1
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        chunks.append(structs.replace(chunk, sequence=self._sequence, time=now))
        self._live.fire((token, job_id), self._sequence)
        return self._sequence

    async def last(self, token: str, job_id: str) -> Chunk | None:
        chunks = self._chunks[token, job_id]
        return chunks[-1] if chunks else None

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        return next((chunk for chunk in self._chunks[token, job_id] if chunk.sequence > after), None)

    async def first_since(self, token: str, job_id: str, moment: datetime) -> Chunk | None:
        return next((chunk for chunk in self._chunks[token, job_id] if parse_time(chunk.time) >= moment), None)

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        for chunk in list(self._chunks[token, job_id]):
            if chunk.sequence > after:
                yield chunk

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen((token, job_id))

    async def purge(self, token: str, job_id: str) -> None:
        self._chunks.pop((token, job_id), None)

    async def places(self) -> AsyncIterator[set[Place]]:
        yield {Place(*place) for place, chunks in self._chunks.items() if chunks}
