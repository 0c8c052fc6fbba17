"""A container's output as Docker gives it: to whoever is attached, or out of its log."""

import struct
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from itertools import groupby
from typing import Final

import aiohttp

from stint.core.errors import EngineError, EngineUnavailableError, LogRotatedError
from stint_runner.engine.docker_client import ENDLESS, STEP, DockerClient, engine_errors
from stint_runner.engine.docker_wire import ENDED, LOG_FILE
from stint_runner.engine.port import OutputPiece

_BOTH: Final = {"stdout": "1", "stderr": "1"}
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_HEADER: Final = struct.Struct(">BxxxL")  # of a frame: the stream, three zeros, and the number of bytes that follow
_LOG_ENTRY: Final = 128  # bytes that a line, or a part of one, takes in a log's file besides itself: at most about 110
_LONG_LINE: Final = 16 * 1024  # bytes of a line that are one entry


async def attached(client: DockerClient, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
    """What a container writes from now on. The first piece is empty: it says that the connection stands."""
    url, parameters = f"containers/{container_id}/attach", {"stream": "1", **_BOTH}
    with engine_errors():
        async with client.stream("POST", url, parameters, limits=ENDLESS) as body:
            yield OutputPiece("tty" if tty else "stdout", b"")
            async with aclosing(_pieces(body, LogMeter(), tty=tty)) as pieces:
                async for piece in pieces:
                    yield piece
        # This connection ends likewise when the engine does, before the container's start too.
        if (await client.containers.container(container_id).show())["State"]["Status"] not in ENDED:
            raise EngineUnavailableError("The container's output broke off.")


async def logged(client: DockerClient, container_id: str) -> AsyncGenerator[OutputPiece, None]:
    """What stands in a container's log, and what it writes until it exits. It must have been started.

    Raises LogRotatedError at the end, if the log may have lost part of it.
    """
    url, parameters = f"containers/{container_id}/logs", {"follow": "1", **_BOTH}
    meter = LogMeter()
    with engine_errors():
        shown = await client.containers.container(container_id).show()
        if shown["State"]["Status"] == "created":
            raise EngineUnavailableError("The container is not started yet.")
        async with (
            client.stream("GET", url, parameters, limits=ENDLESS) as body,
            aclosing(_pieces(body, meter, tty=shown["Config"]["Tty"])) as pieces,
        ):
            async for piece in pieces:
                yield piece
    if meter.may_have_rotated:
        raise LogRotatedError


async def _pieces(body: aiohttp.StreamReader, meter: "LogMeter", *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
    parser = FrameParser()
    async for data in body.iter_chunked(STEP):
        if tty:
            meter.terminal(data)
            yield OutputPiece("tty", data)
            continue
        # The engine makes a frame of each line: pieces that came together are passed on together.
        for piece in merged(meter.frames(parser.feed(data))):
            yield piece
    if not parser.between_frames:
        raise EngineUnavailableError("The container's output broke off.")


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
    """Takes the engine's multiplexed output apart. A frame may come out in several pieces, as its bytes come in.

    aiodocker's own readers give text instead of bytes, or take a broken frame for the end.
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
        rest = memoryview(data)
        while rest:
            if not self._left:
                rest = self._take_header(rest)
            if piece := bytes(rest[: self._left]):
                rest = rest[len(piece) :]
                self._left -= len(piece)
                yield OutputPiece(self._stream, piece)

    def _take_header(self, data: memoryview) -> memoryview:
        """The data behind the header, or behind the part of it that has come."""
        missing = _HEADER.size - len(self._header)
        self._header += data[:missing]
        if len(self._header) == _HEADER.size:
            stream, self._left = _HEADER.unpack(self._header)
            if stream not in _STREAMS:
                raise EngineError("The engine could not read the container's output.")
            self._stream, self._header = _STREAMS[stream], b""
        return data[missing:]


def merged(pieces: Iterable[OutputPiece]) -> Iterator[OutputPiece]:
    """Pieces in the same order, with those that follow each other in one stream as one."""
    for stream, run in groupby(pieces, key=lambda piece: piece.stream):
        yield OutputPiece(stream, b"".join(piece.data for piece in run))
