"""What becomes of a connection that breaks while a timer of its own is due."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint_api.web.connections import limited
from stint_api.web.server import tls_context


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """More than the kernel takes for a client that does not read."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 << 20)})


async def test_a_tls_connection_that_breaks_as_its_reader_is_looked_at_is_no_error(certificates: Path) -> None:
    """asyncio takes the socket away from it one turn of the loop before it says that the connection is lost."""
    environ = {"STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "s"}
    environ |= {f"STINT_TLS_{name.upper()}": f"{certificates}/server-{name}.pem" for name in ("cert", "key")}
    settings = load(ApiSettings, environ)
    loop, config = asyncio.get_running_loop(), uvicorn.Config(answer, log_config=None)
    config.load()
    waits, lost = loop.create_future(), asyncio.Event()

    class Watched(limited(settings, tls_context(settings))):  # type: ignore[misc] # its class is made
        def pause_writing(self) -> None:
            super().pause_writing()
            waits.set_result(self)

        def break_off(self) -> None:
            """Lose the connection, and let the timer be due in the turn of the loop in which asyncio notices."""
            self._transports[0].abort()
            loop.call_soon(self._measure_reader, 0)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    server = await loop.create_server(lambda: Watched(config, ServerState(), {}), "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        verify = ssl.create_default_context(cafile=certificates / "ca.pem")
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=verify, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        (await waits).break_off()
        await lost.wait()
        writer.transport.abort()
    assert errors == []
