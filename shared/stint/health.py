"""`/healthz` and `/readyz` for services that serve nothing else, and how a service's main task runs beside them."""

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Readiness = Callable[[], Awaitable[str]]
"""Answers "" when the service can work, else a sentence that says what is missing."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What stops a service: the last one comes when its terminal closes."""


async def healthz(_request: Request) -> Response:
    """The process is alive."""
    return PlainTextResponse("ok\n")


def readyz(readiness: Readiness) -> Callable[[Request], Awaitable[Response]]:
    """The service can work, or a 503 with what is missing."""

    async def endpoint(_request: Request) -> Response:
        missing = await readiness()
        return PlainTextResponse(f"{missing or 'ready'}\n", status_code=503 if missing else 200)

    return endpoint


@asynccontextmanager
async def serve(port: int | None, readiness: Readiness) -> AsyncIterator[None]:
    """Answer on a loopback port during the block; None answers nowhere."""
    if port is None:
        yield
        return
    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz(readiness))])
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(_serve_without_signals(server), name="health")
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def _serve_without_signals(server: uvicorn.Server) -> None:
    """`Server.serve` would take over the signals that the service handles itself."""
    config = server.config
    if not config.loaded:
        config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    if not server.should_exit:
        await server.main_loop()
    await server.shutdown()


@asynccontextmanager
async def on_signals(callback: Callable[[], None]) -> AsyncIterator[None]:
    """Call back at each SIGTERM, SIGINT and SIGHUP during the block.

    A SIGHUP that was ignored from the start (`nohup`) stays ignored.
    """
    loop = asyncio.get_running_loop()
    heeded = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]

    def handle() -> None:
        _drop_closed_output()
        callback()

    for number in heeded:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


def _drop_closed_output() -> None:
    """Send standard output and error nowhere if their terminal or reader is gone: a write would raise amid the stop."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    closed = [descriptor for descriptor, event in poll.poll(0) if event & (select.POLLHUP | select.POLLERR)]
    for descriptor in closed:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), descriptor)
