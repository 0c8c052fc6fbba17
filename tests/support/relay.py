"""A relay on loopback, in front of a server: it passes bytes on, and can look at them, hold them back, or break off."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

_STEP = 64 * 1024


class Relay:
    """In front of a TCP port of loopback, or of a Unix socket. `refusing` resets new connections at once."""

    def __init__(self, target: int | str) -> None:
        self.port = 0
        self.refusing = False
        self._target = target
        self._listening = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def sent(self, data: bytes) -> bytes:
        """What goes on of a client's bytes, once this returns."""
        return data

    async def answered(self, data: bytes) -> bytes:
        """The same of the server's."""
        return data

    def end(self) -> None:
        """Close all connections, as if in order."""
        for writer in self._writers:
            writer.close()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            _reset(writer)

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1") -> AsyncIterator[int]:
        """Its port, for the duration of the block."""
        server = await asyncio.start_server(self._accept, host, 0)
        self.port, self._listening = server.sockets[0].getsockname()[1], True
        try:
            yield self.port
        finally:
            self._listening = False
            server.close()
            self.cut()
            for serving in self._serving:
                serving.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note the connection before anything can cancel what serves it: one that nobody closes fails a later test."""
        if not self._listening:
            writer.transport.abort()
            return
        self._writers.add(writer)
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sides = {writer}
        try:
            if self.refusing:
                return
            back, out = await self._connect()
            sides.add(out)
            self._writers.add(out)
            pumps = [
                asyncio.create_task(_pump(reader, out, self.sent)),
                asyncio.create_task(_pump(back, writer, self.answered)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            return
        finally:
            for side in sides:
                _reset(side) if self.refusing else side.close()
            # Who reads nothing keeps a connection with more to send open: that is left to the relay's end.
            self._writers -= {side for side in sides if not side.transport.get_write_buffer_size()}

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)


class Line(Relay):
    """A line to NATS that breaks when a client's bytes hold `at`: they get through or not, and no answer comes."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.broken = asyncio.Event()
        self.mend()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def break_at(self, at: re.Pattern[bytes], *, through: bool) -> None:
        self._at, self._through = at, through

    def mend(self) -> None:
        self.break_at(re.compile(b"\0\0never"), through=True)
        self.broken.clear()

    async def sent(self, data: bytes) -> bytes:
        if self._at.search(data):
            self.broken.set()
        return data if self._through or not self.broken.is_set() else b""

    async def answered(self, data: bytes) -> bytes:
        return b"" if self.broken.is_set() else data


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Callable[[bytes], Awaitable[bytes]]
) -> None:
    while data := await reader.read(_STEP):
        writer.write(await passed(data))
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the other end's next read fails."""
    end: socket.socket | None = writer.get_extra_info("socket")
    if end is not None and not writer.is_closing() and end.family != socket.AF_UNIX:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
