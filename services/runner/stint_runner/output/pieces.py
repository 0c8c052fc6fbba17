"""Pieces of output that were read from the engine and are not stored yet."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from stint.core.errors import StintError
from stint_runner.engine.port import OutputPiece

CHUNK_BYTES: Final = 64 * 1024  # a chunk is closed when it holds this much; the last piece can take it to twice that
PIECES_WAITING: Final = 64  # pieces read ahead of the log: with pieces of up to 64 KiB a job's memory is at most 4 MiB

_NOTHING_YET: Final = OutputPiece("", b"")

PieceQueue = asyncio.Queue[OutputPiece | None]  # at most `PIECES_WAITING` pieces; None is the end


class FellBehindError(StintError):
    """The output could not be stored fast enough, and the container is no longer blocked by it."""


async def put(queue: PieceQueue, piece: OutputPiece, patience: float | None) -> None:
    """Add a piece, once there is room for it. Raises FellBehindError if there was none for `patience` seconds."""
    if not queue.full():
        queue.put_nowait(piece)
        return
    try:
        async with asyncio.timeout(patience):
            await queue.put(piece)
    except TimeoutError:
        raise FellBehindError from None


async def gathered(queue: PieceQueue) -> AsyncGenerator[tuple[str, bytes], None]:
    """What has arrived in one stream so far, in order, about a chunk at a time, until the end."""
    piece = await queue.get()
    while piece is not None:
        stream, data = piece.stream, bytearray()
        while piece is not None and piece.stream == stream and len(data) < CHUNK_BYTES:
            data += piece.data
            piece = _NOTHING_YET if queue.empty() else queue.get_nowait()
        yield stream, bytes(data)
        if piece is _NOTHING_YET:
            piece = await queue.get()
