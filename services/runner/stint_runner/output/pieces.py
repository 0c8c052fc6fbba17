"""Between the engine and the log: pieces of output that wait to be stored."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from stint.core.errors import StintError
from stint_runner.engine.port import OutputPiece

CHUNK_BYTES: Final = 64 * 1024
"""A chunk is closed when it holds this much; the last piece can take it to twice that."""
PIECES_WAITING: Final = 64
"""Pieces read ahead of the log: with pieces of at most 64 KiB this bounds a job's memory at 4 MiB."""

_NOTHING_YET: Final = OutputPiece("", b"")


class FellBehindError(StintError):
    """The output was not stored fast enough, and its container was let go."""


class PieceQueue:
    """A bounded queue of pieces, and the end of it, for which there is always room."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[OutputPiece | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(PIECES_WAITING)

    async def put(self, piece: OutputPiece, patience: float | None) -> None:
        """Add a piece, once there is room for it.

        Raises:
            FellBehindError: there was none for `patience` seconds.
        """
        if self._room.locked():
            try:
                async with asyncio.timeout(patience):
                    await self._room.acquire()
            except TimeoutError:
                raise FellBehindError from None
        else:
            await self._room.acquire()
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        """Nothing comes any more."""
        self._pieces.put_nowait(None)

    async def gathered(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """What has come in one stream until now, in order, about a chunk at a time."""
        piece = await self._taken()
        while piece is not None:
            stream, data = piece.stream, bytearray()
            while piece is not None and piece.stream == stream and len(data) < CHUNK_BYTES:
                data += piece.data
                piece = _NOTHING_YET if self._pieces.empty() else await self._taken()
            yield stream, bytes(data)
            if piece is _NOTHING_YET:
                piece = await self._taken()

    async def _taken(self) -> OutputPiece | None:
        piece = await self._pieces.get()
        self._room.release()
        return piece
