"""From a container's output to numbered, chained chunks in the log."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from stint.errors import BrokerUnavailableError, StintError
from stint.eventlog import Chunk, OutputLog
from stint_runner.engine import OutputPiece
from stint_runner.waiting import patiently

CHUNK_BYTES: Final = 64 * 1024
"""A chunk is closed when it holds this much; the last piece can take it to twice that."""
PIECES_WAITING: Final = 64
"""Pieces read ahead of the log: with pieces of at most 64 KiB this bounds a job's memory at 4 MiB."""

_NOTHING_YET: Final = OutputPiece("", b"")


class OutputPump:
    """Copies one container's output into the log as it comes.

    While one chunk is on its way to the log the next one gathers, so that a slow trickle arrives at once and a flood
    in full chunks.

    Attributes:
        chunks: how many are stored.
        size: bytes stored.
        digest: hex digest of the last one.
    """

    def __init__(self, log: OutputLog, token: str, job_id: str) -> None:
        self.chunks = 0
        self.size = 0
        self.digest = ""
        self._log = log
        self._place = (token, job_id)
        self._sequence = 0

    async def copy(self, pieces: AsyncIterator[OutputPiece]) -> None:
        """Store everything, and return when the output has ended.

        Raises:
            StintError: the output broke off. What had come of it is stored.
        """
        waiting: asyncio.Queue[OutputPiece | None] = asyncio.Queue(PIECES_WAITING)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_read(pieces, waiting))
            async for stream, data in _gather(waiting):
                await self._store(stream, data)
        if fault := reading.result():
            raise fault

    async def _store(self, stream: str, data: bytes) -> None:
        chunk = Chunk(
            number=self.chunks + 1,
            offset=self.size,
            stream=stream,
            digest=hashlib.sha256(self.digest.encode() + data).hexdigest(),
            data=data,
        )
        # For as long as it takes: if that is too long the lease ends the job.
        self._sequence = await patiently(
            lambda: self._log.append(*self._place, chunk, after=self._sequence), on=BrokerUnavailableError
        )
        self.chunks, self.size, self.digest = chunk.number, self.size + len(data), chunk.digest


async def _read(pieces: AsyncIterator[OutputPiece], waiting: "asyncio.Queue[OutputPiece | None]") -> StintError | None:
    """Read to the end, and return what broke it off."""
    fault: StintError | None = None
    try:
        async for piece in pieces:
            await waiting.put(piece)
    except StintError as error:
        fault = error
    await waiting.put(None)
    return fault


async def _gather(waiting: "asyncio.Queue[OutputPiece | None]") -> AsyncIterator[tuple[str, bytes]]:
    """What has come in one stream until now, in order, about a chunk at a time."""
    piece = await waiting.get()
    while piece is not None:
        stream, data = piece.stream, bytearray()
        while piece is not None and piece.stream == stream and len(data) < CHUNK_BYTES:
            data += piece.data
            piece = _NOTHING_YET if waiting.empty() else waiting.get_nowait()
        yield stream, bytes(data)
        if piece is _NOTHING_YET:
            piece = await waiting.get()
