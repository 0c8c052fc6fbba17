"""Waiting for what no event announces: another process's answer, its log, its files.

Where the system tells of a change (a stream, a watch, `asyncio.Event`, a process's end), wait for that instead.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from stint.process.background import cancel

T = TypeVar("T")

PAUSE: Final = 0.05
"""Seconds between two looks: on two processors, a loop without a pause takes them from the servers it waits for."""
PATIENCE: Final = 30.0
"""Seconds that anything may take on a busy machine."""


async def until(
    look: Callable[[], Awaitable[T]], good: Callable[[T], object] = bool, *, seconds: float = PATIENCE
) -> T:
    """What `look` returns, as soon as it is `good`; an AssertionError says what was seen last."""
    seen: list[T] = []
    try:
        async with asyncio.timeout(seconds):
            while not good(found := await look()):
                seen[:] = [found]
                await asyncio.sleep(PAUSE)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s, at last: {seen}") from None


async def until_there(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` returns, as soon as it is something."""
    found = await until(look)
    assert found is not None
    return found


async def until_true(check: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Return as soon as `check` holds; for what needs no I/O, or only a file's."""

    async def look() -> object:
        return check()

    await until(look, seconds=seconds)


@asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run this, which has no end, beside the block, and cancel it at its end. If it has failed, the block fails."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        await cancel(*tasks)
        assert not [task.result() for task in ended], "it has ended by itself"
