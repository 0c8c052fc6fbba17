"""Waiting for one of several things, doing several at a time, and repeating a call."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, TypeVar

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.process.background import cancel, rounds

log = structlog.get_logger()

T = TypeVar("T")
U = TypeVar("U")

RETRY_PAUSE: Final = 5.0
"""Seconds until a call that failed is repeated, though its interval be longer."""


class InterruptedByEventError(StintError):
    """The event came before the work was done."""


async def any_of(*events: asyncio.Event, within: float) -> bool:
    """Whether one of the events is set within so many seconds."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        await cancel(*waiting)


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[object]], *, at_once: int) -> None:
    """Do the work for each item, `at_once` of them at a time. The first error cancels the rest, and is raised."""
    rest = iter(items)

    async def some() -> None:
        for item in rest:
            await work(item)

    async with _task_group() as group:
        for _ in range(at_once):
            group.create_task(some())


async def both(work: Coroutine[Any, Any, T], beside: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """The results of both, which are done at the same time. An error of one cancels the other, and is raised."""
    tasks: tuple[asyncio.Task[T], asyncio.Task[U]] | None = None
    try:
        async with _task_group() as group:
            # Neither is awaited here: since Python 3.12 its cancellation would hold this frame, and what that holds.
            tasks = group.create_task(work), group.create_task(beside)
        return tasks[0].result(), tasks[1].result()
    finally:
        del tasks  # one may hold the error, whose frames hold it


@asynccontextmanager
async def _task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first error is raised on its own."""
    failure: Exception
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        failure, errors.__traceback__ = errors.exceptions[0], None
    else:
        return
    # Neither from the except block nor from a variable that stays: with the group, or with this frame, the error would
    # hold itself and all that its frames hold, such as a request's body, until the garbage collector comes.
    try:
        raise failure
    finally:
        del failure


@asynccontextmanager
async def interrupted_by(event: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the block when the event comes before its end.

    Raises InterruptedByEventError once the block has then finished cleaning up.
    """
    loop, scope = asyncio.get_running_loop(), asyncio.timeout(None)
    try:
        async with scope:

            async def interrupt() -> None:
                await event.wait()
                scope.reschedule(loop.time())

            interrupting = asyncio.create_task(interrupt())
            try:
                yield
            finally:
                interrupting.cancel()
    except TimeoutError:
        if not scope.expired():
            raise
        raise InterruptedByEventError from None


async def unless(event: asyncio.Event, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the event is set first, as with `interrupted_by`."""
    async with interrupted_by(event):
        return await work


async def repeat(call: Callable[[], Awaitable[object]], pause: Callable[[], float], *, failed: str) -> NoReturn:
    """Repeat a call until cancelled, whether it fails or not.

    `pause` gives the seconds until the next call, but at most `RETRY_PAUSE` after one that failed; up to a fifth is
    added. A failure is logged with the message `failed`, and again when it changes; if NATS is unavailable only for
    debugging, because the connection has logged that already. The background task in which this runs tells of calls
    that go on failing.
    """
    said = ""
    while True:
        longest = RETRY_PAUSE
        try:
            await call()
            longest, said = math.inf, ""
        except BrokerUnavailableError as error:
            log.debug(failed, error=error.sentence)
        except StintError as error:
            (log.debug if error.sentence == said else log.warning)(failed, error=error.sentence)
            said = error.sentence
        except Exception:  # one failure must not end the repetition
            log.exception(failed)
        if task := rounds.get():
            task.ended(failed, failed=longest < math.inf)
        await asyncio.sleep(min(pause(), longest) * random.uniform(1, 1.2))  # noqa: S311 - jitter
