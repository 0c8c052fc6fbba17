"""Waiting for one thing or another, and for the next time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import structlog

from stint.core.errors import BrokerUnavailableError, StintError

log = structlog.get_logger()

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


async def any_of(*events: asyncio.Event, within: float) -> bool:
    """Whether one of the events is set by then. `within` is in seconds."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def again_and_again(
    call: Callable[[], Awaitable[object]], pause: Callable[[], float], *, failed: str
) -> NoReturn:
    """Call now and then until cancelled, whatever comes of it.

    Args:
        call: what may fail, and is to be tried again all the same.
        pause: seconds until the next time, or up to a fifth more.
        failed: says in the log what was not done. That NATS is away its connection has said already.
    """
    while True:
        try:
            await call()
        except BrokerUnavailableError as error:
            log.debug(failed, error=error.sentence)
        except StintError as error:
            log.warning(failed, error=error.sentence)
        except Exception:  # a fault now can never be the end of it
            log.exception(failed)
        await asyncio.sleep(pause() * random.uniform(1, 1.2))  # noqa: S311 - jitter
