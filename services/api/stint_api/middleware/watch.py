"""The caller of a stream, or of a large answer, is checked again for as long as it lasts."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog

from stint.core.errors import StintError, VaultUnavailableError
from stint.process.background import cancel
from stint.process.waiting import InterruptedByEventError, any_of, unless
from stint_api.errors import RefusalError, refusal_of
from stint_api.lookups import CACHE_SECONDS
from stint_api.web.streaming import event

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns if the caller might begin this now, else raises; see `Authenticator.check_again`."""

PERIOD: Final = CACHE_SECONDS
"""Seconds between two checks: a revoked token is good for a GET as long."""


async def while_allowed(
    events: AsyncGenerator[bytes, None], check: Check, closing: asyncio.Event, refused: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The events of a stream, which must end when `closing` or `refused` is set.

    If the caller was refused, the last event is `refused`, which says why.
    """
    try:
        async with aclosing(unless_refused(events, check, closing, refused)) as pieces:
            async for piece in pieces:
                yield piece
    except RefusalError as refusal:
        yield event("refused", {"status": refusal.title, "error": refusal.sentence})


async def unless_refused(
    pieces: AsyncGenerator[bytes, None], check: Check, closing: asyncio.Event, refused: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer. It raises RefusalError when its caller is refused, after `refused` was set."""
    watching = asyncio.create_task(_watch(check, closing, refused))
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


async def _watch(check: Check, closing: asyncio.Event, refused: asyncio.Event) -> RefusalError | None:
    """Check until the caller is refused, and return why; or until the server is about to end.

    While Vault is unavailable the stream continues. If this fails, the stream ends: nobody watches it any more.
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
    except Exception:
        refused.set()
        raise
    return None
