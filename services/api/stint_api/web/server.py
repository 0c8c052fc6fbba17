"""Serving an app until a signal comes."""

import asyncio
import socket
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from stint.core.errors import ConfigError
from stint.process.background import cancel
from stint.process.settings import ApiSettings
from stint.process.signals import on_signals
from stint_api.web.connections import MAX_HEAD, ConnectionLimits, limited

log = structlog.get_logger()

GRACE: Final = 10
"""Seconds that requests have to finish in once the server is about to end."""
TICK: Final = 1.0
"""Seconds between two refreshes of the `Date` header."""


def listen(settings: ApiSettings) -> socket.socket:
    """Bind the address, so that its port is known before anything is served.

    Raises:
        ConfigError: it cannot be had.
    """
    host = settings.listen_host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, settings.port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "not a port"
        raise ConfigError(f"STINT_HOST, STINT_PORT: cannot listen on {host} port {settings.port}: {reason}.") from None


def url_of(listener: socket.socket, settings: ApiSettings) -> str:
    """Where clients reach it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert else 'http'}://{shown}:{port}"


def write_port(path: Path, listener: socket.socket) -> None:
    """Say which port it became, to whoever started this process. The file appears with all of its content.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(f"{listener.getsockname()[1]}\n", encoding="ascii")
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"STINT_PORT_REPORT: {path} cannot be written: {error.strerror}.") from None


async def serve(
    app: FastAPI, listener: socket.socket, settings: ApiSettings, closing: asyncio.Event, *, ending: asyncio.Event
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered; a second signal ends that too.

    `ending` ends it likewise.
    """
    limits = ConnectionLimits(
        connections=settings.connections, timeout=settings.request_timeout, body_rate=settings.body_rate
    )
    config = uvicorn.Config(
        app,
        http=limited(limits),
        h11_max_incomplete_event_size=MAX_HEAD,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config, closing, url_of(listener, settings))
    stopping = asyncio.create_task(_stop_at(ending, server), name="ending")
    try:
        async with on_signals(server.stop):
            await server.serve(sockets=[listener])
    finally:
        await cancel(stopping)


async def _stop_at(event: asyncio.Event, server: "_Server") -> None:
    await event.wait()
    server.stop()


class _Server(uvicorn.Server):
    """Uvicorn, woken by an event where it would look ten times a second, and without its own way with signals."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event, url: str) -> None:
        super().__init__(config)
        self._closing = closing
        self._url = url

    def stop(self) -> None:
        self.force_exit = self._closing.is_set()
        self.should_exit = True
        self._closing.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        log.info("api listening", url=self._url)

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(TICK):
                    await self._closing.wait()
            except TimeoutError:
                continue
