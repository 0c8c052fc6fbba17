"""A TCP proxy that can stop forwarding without closing, or cut."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_STEP = 64 * 1024


class Proxy:
    """Forwards to a port of loopback. What came in while it stalled goes on afterwards, late."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Future[None]] = set()

    def stall(self) -> None:
        """Connections stay, new ones are taken, and nothing gets through."""
        self._flowing.clear()

    def cut(self) -> None:
        """Connections are reset, and new ones too."""
        self._cut = True
        for writer in self._writers:
            _reset(writer)

    def heal(self) -> None:
        self._cut = False
        self._flowing.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.cut()
            self._flowing.set()
            await asyncio.gather(*self._serving)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        out: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            if not self._cut:
                back, out = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(out)
                await self._both(
                    asyncio.create_task(self._pump(reader, out)), asyncio.create_task(self._pump(back, writer))
                )
        except OSError:
            return
        finally:
            for side in (writer, out):
                if side is not None:
                    self._close(side)
                    self._writers.discard(side)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            _reset(writer)
        else:
            writer.close()

    @staticmethod
    async def _both(*pumps: "asyncio.Task[None]") -> None:
        """Until one side has closed."""
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_STEP):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the other end's next read fails."""
    end: socket.socket | None = writer.get_extra_info("socket")
    if end is not None and not writer.is_closing():
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
