"""The caller of a stream, or of a large answer, is checked again for as long as it lasts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import structlog

from stint.core.errors import StintError, VaultUnavailableError
from stint.process.background import cancel
from stint_api.auth.tokens import CACHE_SECONDS
from stint_api.errors import RefusalError, refusal_of
from stint_api.web import sse

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns if the caller might begin this now, else raises; see `Authenticator.check_again`."""

PERIOD: Final = CACHE_SECONDS
"""Seconds between two checks: a revoked token is good for a GET as long."""


class _Watch:
    """One caller under watch.

    Attributes:
        over: set when there is nothing more to send: the caller was refused, or the server is about to end.
        refusal: why the caller was refused, None if it was not.
    """

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.refusal: RefusalError | None = None

    async def check_on(self, check: Check) -> None:
        """Check again and again. However this ends, the watched one ends with it."""
        try:
            while self.refusal is None:
                await asyncio.sleep(PERIOD)
                self.refusal = await _refusal(check)
        finally:
            self.over.set()

    async def close_with(self, closing: asyncio.Event) -> None:
        """End with the server, also while Vault keeps a check waiting."""
        await closing.wait()
        self.over.set()


async def while_allowed(
    events: Callable[[asyncio.Event], AsyncGenerator[bytes, None]], check: Check, closing: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The events of a stream, which gets what tells it to end, up to its end; or up to `refused`, which says why."""
    async with _watching(check, closing) as watch, aclosing(events(watch.over)) as pieces:
        async for piece in pieces:
            if watch.refusal is not None:
                break
            yield piece
    if watch.refusal is not None:
        yield sse.event("refused", {"status": watch.refusal.title, "error": watch.refusal.sentence})


async def unless_refused(pieces: AsyncGenerator[bytes, None], check: Check) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer, which breaks off when its caller is refused.

    Raises:
        RefusalError: the caller was refused.
    """
    async with _watching(check, asyncio.Event()) as watch, aclosing(pieces):
        async for piece in pieces:
            if watch.refusal is not None:
                raise watch.refusal
            yield piece


@asynccontextmanager
async def _watching(check: Check, closing: asyncio.Event) -> AsyncIterator[_Watch]:
    watch = _Watch()
    checking = asyncio.create_task(watch.check_on(check))
    waiting = asyncio.create_task(watch.close_with(closing))
    try:
        yield watch
    finally:
        await cancel(checking, waiting)
    if not checking.cancelled():
        checking.result()  # a fault of ours is not to be taken for an end


async def _refusal(check: Check) -> RefusalError | None:
    """Why the caller is refused, None if it is not. While Vault is unavailable the stream continues."""
    try:
        await check()
    except VaultUnavailableError as error:
        log.debug("a stream's caller cannot be checked, the stream continues", error=error.sentence)
    except StintError as error:
        return refusal_of(error)
    return None
