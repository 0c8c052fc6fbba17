"""The caller of a stream, or of a large answer, is checked again for as long as it lasts."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog

from stint.core.errors import StintError, VaultUnavailableError
from stint.process.background import cancel
from stint.process.waiting import InterruptedByEventError, any_of, unless
from stint_api.auth import CACHE_SECONDS
from stint_api.errors import RefusalError, refusal_of
from stint_api.web.streaming import event

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns if the caller might begin this now, else raises; see `Authenticator.check_again`."""

PERIOD: Final = CACHE_SECONDS
"""Seconds between two checks: a revoked token is good for a GET as long."""


async def while_allowed(
    events: Callable[[asyncio.Event], AsyncGenerator[bytes, None]],
    check: Check,
    closing: asyncio.Event,
    refused: asyncio.Event,
) -> AsyncGenerator[bytes, None]:
    """The events of a stream, up to its end; or up to `refused`, which says why the caller was refused.

    `events` gets an event that tells it to end: the caller was refused, or the server is about to end. `refused` is set
    in the first case only.
    """
    over = asyncio.Event()
    try:
        async with aclosing(unless_refused(events(over), check, closing, refused, over)) as pieces:
            async for piece in pieces:
                yield piece
    except RefusalError as refusal:
        yield event("refused", {"status": refusal.title, "error": refusal.sentence})


async def unless_refused(
    pieces: AsyncGenerator[bytes, None],
    check: Check,
    closing: asyncio.Event,
    refused: asyncio.Event,
    over: asyncio.Event,
) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer, which breaks off when its caller is refused; `refused` and `over` are set then.

    `over` is also set when the server is about to end: large answers go on, and event streams end.

    Raises:
        RefusalError: the caller was refused.
    """
    watching = asyncio.create_task(_watch(check, closing, refused, over))
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if watching.done() and (refusal := watching.result()):
                    raise refusal
                yield piece
        if watching.done() and (refusal := watching.result()):
            raise refusal
    finally:
        await cancel(watching)


async def _watch(
    check: Check, closing: asyncio.Event, refused: asyncio.Event, over: asyncio.Event
) -> RefusalError | None:
    """Check until the caller is refused, and return why; or until the server is about to end. Then set `over`.

    While Vault is unavailable the stream continues. However this ends, the stream ends with it.
    """
    try:
        while not await any_of(closing, within=PERIOD):
            try:
                await unless(closing, check())
            except InterruptedByEventError:
                break
            except VaultUnavailableError as error:
                log.debug("a stream's caller cannot be checked, the stream continues", error=error.sentence)
            except StintError as error:
                refused.set()
                return refusal_of(error)
        return None
    finally:
        over.set()
