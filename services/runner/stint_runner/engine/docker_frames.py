"""How Docker frames a container's output, and what that takes in its log."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from stint.core.errors import EngineError
from stint_runner.engine.port import OutputPiece

LOG_FILE: Final = 128 * 10**6
"""Bytes of a log's file. There are two: when both are full, the older one goes."""

_LOG_ENTRY: Final = 128
"""Bytes that a line, or a part of one, takes in a log's file besides itself: at most about 110."""
_LONG_LINE: Final = 16 * 1024
"""Bytes of a line that are one entry."""
_FRAME_HEADER: Final = 8
_STREAMS: Final = {1: "stdout", 2: "stderr"}


class LogMeter:
    """How much of a log's files has been read, at most.

    A log that has lost anything still has a full file, and all of that is read. So as long as less was read when the
    end of the log is reached, it was the whole log.
    """

    def __init__(self) -> None:
        self._size = 0

    @property
    def may_have_rotated(self) -> bool:
        """Whether there may have been more, once the log has been read to its end."""
        return self._size >= LOG_FILE

    def frames(self, pieces: Iterable[OutputPiece]) -> Iterator[OutputPiece]:
        """Hand the frames on, each one an entry of the log."""
        for piece in pieces:
            self._size += len(piece.data) + _LOG_ENTRY
            yield piece

    def terminal(self, data: bytes) -> None:
        """Count what has no frames: an entry for each line, and for each 16 KiB of a longer one."""
        lines = data.count(b"\n") + len(data) // _LONG_LINE + 1
        self._size += len(data) + lines * _LOG_ENTRY


class FrameParser:
    """Takes the engine's multiplexed output apart: 8 bytes of header (stream, three zeros, size), then the bytes.

    A frame may come out in several pieces, as its bytes come in; nothing but a header is ever held back.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream = ""
        self._left = 0

    @property
    def between_frames(self) -> bool:
        """Whether the output may end here."""
        return not self._header and not self._left

    def feed(self, data: bytes) -> Iterator[OutputPiece]:
        """The pieces in the next bytes of the connection. Must be run through before the next call.

        Raises:
            EngineError: a frame of no known stream: Docker reports there that it cannot read the log.
        """
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                yield OutputPiece(self._stream, piece)
            else:
                position += self._take_header(data, position)

    def _take_header(self, data: bytes, position: int) -> int:
        taken = data[position : position + _FRAME_HEADER - len(self._header)]
        self._header += taken
        if len(self._header) == _FRAME_HEADER:
            stream = _STREAMS.get(self._header[0])
            if stream is None:
                raise EngineError("The engine could not read the container's output.")
            self._stream, self._left = stream, int.from_bytes(self._header[4:])
            self._header = b""
        return len(taken)


def merged(pieces: Iterable[OutputPiece]) -> Iterator[OutputPiece]:
    """Pieces in the same order, with those that follow each other in one stream as one."""
    for stream, run in groupby(pieces, key=lambda piece: piece.stream):
        yield OutputPiece(stream, b"".join(piece.data for piece in run))
