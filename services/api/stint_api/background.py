"""Tasks that run as long as the application does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

log = structlog.get_logger()

CANCEL_AGAIN: Final = 0.2
"""Seconds after which a task that did not end is cancelled once more: up to Python 3.11 `asyncio.wait_for`, which the
NATS client uses, loses a cancellation that comes together with a result."""


@asynccontextmanager
async def running(*functions: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run them during the block."""
    tasks = {asyncio.create_task(_run(function)) for function in functions}
    try:
        yield
    finally:
        await cancel(*tasks)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """End tasks, however they end."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)


async def _run(function: Callable[[], Awaitable[None]]) -> None:
    try:
        await function()
    except Exception:
        log.exception("a background task failed")
        raise
