"""Uvicorn as all services use it, and `/healthz` and `/readyz` for services that serve nothing else."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stint.core.errors import ConfigError
from stint.process.background import cancel
from stint.process.waiting import repeat

log = structlog.get_logger()

WATCH_INTERVAL: Final = 10.0
"""Seconds between two looks at a service's readiness, and from its start to the first."""

Readiness = Callable[[], Awaitable[str]]
"""Returns "" if the service can work, otherwise a sentence that says what is missing."""
Failing = Callable[[], Sequence[str]]
"""Returns what is missing while the service can work: see `Background.failing`."""


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: each service handles signals itself, and sets `should_exit`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


async def healthz(_request: Request) -> Response:
    """The process is alive."""
    return PlainTextResponse("ok\n")


def readyz(readiness: Readiness, failing: Failing) -> Callable[[Request], Awaitable[Response]]:
    """Whether the service can work, and what fails; or a 503 that says what is missing.

    Requests during a check share its result.
    """
    checking: asyncio.Future[str] | None = None

    async def endpoint(_request: Request) -> Response:
        nonlocal checking
        if checking is None or checking.done():
            checking = asyncio.ensure_future(readiness())
        missing = await asyncio.shield(checking)
        lines = [missing] if missing else ["ready", *failing()]
        return PlainTextResponse("\n".join([*lines, ""]), status_code=503 if missing else 200)

    return endpoint


@asynccontextmanager
async def watched(readiness: Readiness, failing: Failing) -> AsyncIterator[None]:
    """Log during the block when the service is no longer ready, and why, and when it is again.

    While it is ready, log what fails too.
    """
    said, failed = "", list[str]()

    async def look() -> None:
        nonlocal said, failed
        before, said = said, await readiness()
        if said != before:
            log.warning("not ready", missing=said) if said else log.info("ready again")
        if said or before:
            return  # what fails meanwhile, or was not tried again since, may fail because of that
        if (fails := [*failing()]) != failed:
            log.error("background tasks fail each time", missing=fails) if fails else log.info("no task fails any more")
        failed = fails

    async def watch() -> None:
        await asyncio.sleep(WATCH_INTERVAL)
        await repeat(look, lambda: WATCH_INTERVAL, failed="readiness cannot be told")

    watching = asyncio.create_task(watch(), name="readiness")
    try:
        yield
    finally:
        await cancel(watching)


@asynccontextmanager
async def serve(port: int | None, readiness: Readiness, failing: Failing) -> AsyncIterator[None]:
    """Serve on a loopback port during the block; with None serve nothing. Changes are logged, see `watched`.

    Raises ConfigError if the port is not available.
    """
    if port is None:
        async with watched(readiness, failing):
            yield
        return
    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz(readiness, failing))])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    server = Server(config)
    with _listen(port) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]), name="health")
        try:
            async with watched(readiness, failing):
                yield
        finally:
            server.should_exit = True
            await task


def _listen(port: int) -> socket.socket:
    """Bind the port here, because uvicorn exits without a message if the port is not available."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(f"STINT_HEALTH_PORT: cannot listen on port {port}: {error.strerror}.") from None
