"""Serving an app until a signal comes."""

import asyncio
import resource
import socket
import ssl
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from stint.core.errors import ConfigError
from stint.process.background import cancel
from stint.process.health import Server
from stint.process.settings import ApiSettings
from stint.process.signals import on_signals
from stint_api.web.connections import limited

log = structlog.get_logger()

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us until they are accepted."""
ACCEPTED_AT_A_TIME: Final = 32
"""Connections that are accepted before those beyond `STINT_CONNECTIONS` are closed; each takes a file descriptor."""
DESCRIPTORS: Final = 100
"""File descriptors that the process needs besides those of `STINT_CONNECTIONS`: 48 for connections to Vault, if it is
slow, `ACCEPTED_AT_A_TIME`, and 16 of its own."""
KEEP_ALIVE: Final = 75
"""Seconds without a request until a kept connection is closed, as in nginx. Clients must give it up first: one that
sends a request while the server closes gets no answer, and httpx and Node keep theirs for 5 s."""
GRACE: Final = 10
"""Seconds that requests have to finish in once the server is about to end."""


def allow_connections(settings: ApiSettings) -> None:
    """Raise the soft limit of open files: beyond it the event loop closes connections without a word.

    Raises ConfigError if the hard limit is too low.
    """
    needed = settings.connections + DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        few = f"this process may have {hard} (`ulimit -Hn`)"
        raise ConfigError(f"STINT_CONNECTIONS: {settings.connections} connections need {needed} open files, and {few}.")
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def listen(settings: ApiSettings) -> socket.socket:
    """Bind the address, so that its port is known early. Raises ConfigError if it is not available."""
    host = settings.listen_host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, settings.port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "not a port"
        raise ConfigError(f"STINT_HOST, STINT_PORT: cannot listen on {host} port {settings.port}: {reason}.") from None
    # Connections inherit it. asyncio sets it only on sockets with TCP's protocol number, which is 0 here. Without it an
    # answer on a kept connection waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def tls_context(settings: ApiSettings) -> ssl.SSLContext | None:
    """The server's side of TLS, None for plain HTTP. Raises ConfigError if certificate and key cannot be used."""
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError):
        raise ConfigError("STINT_TLS_CERT, STINT_TLS_KEY: not a readable certificate and its key.") from None
    return context


def write_port(path: Path, listener: socket.socket) -> None:
    """Tell the port to whoever started this process, in a file that appears with its content. Raises ConfigError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(f"{listener.getsockname()[1]}\n", encoding="ascii")
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"STINT_PORT_REPORT: {path} cannot be written: {error.strerror}.") from None


class _Server(Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. For asyncio the kernel's backlog is also how many connections it accepts at a time."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the background tasks in order also if requests are not waited for, where Uvicorn leaves them."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


async def serve(
    app: FastAPI, listener: socket.socket, settings: ApiSettings, closing: asyncio.Event, *, ending: asyncio.Event
) -> None:
    """Serve until SIGTERM, SIGINT or `ending`, then finish what is being answered; another signal ends that too."""
    config = uvicorn.Config(
        app,
        http=limited(settings, tls_context(settings)),
        log_config=None,
        log_level="error",  # its warnings repeat what clients send
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client or the scheme is
        lifespan="on",
        ws="none",
        backlog=ACCEPTED_AT_A_TIME,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)

    def stop() -> None:
        server.force_exit = closing.is_set()
        server.should_exit = True
        closing.set()

    async def stop_at_ending() -> None:
        await ending.wait()
        stop()

    stopping = asyncio.create_task(stop_at_ending(), name="ending")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("api listening", url=f"{'https' if settings.tls_cert else 'http'}://{shown}:{port}")
    try:
        async with on_signals(stop):
            await server.serve(sockets=[listener])
    finally:
        await cancel(stopping)
