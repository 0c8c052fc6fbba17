"""Waiting for one thing or another."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from stint.errors import StintError

T = TypeVar("T")


class InterruptedByEventError(StintError):
    """The event came before the work was done."""


async def unless(event: asyncio.Event, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the event comes first.

    Raises:
        InterruptedByEventError: the event came first, and the work has been cancelled and has finished cleaning up.
    """
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise InterruptedByEventError
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
