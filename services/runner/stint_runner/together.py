"""Doing several things at the same time."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar, overload

from stint.process.background import cancel

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@overload
async def side_by_side(first: Awaitable[A], second: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def side_by_side(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], /) -> tuple[A, B, C]: ...
@overload
async def side_by_side(*work: Awaitable[A]) -> tuple[A, ...]: ...
async def side_by_side(*work: Awaitable[Any]) -> tuple[Any, ...]:
    """The results, once all have ended. If several failed, the first in the order of the arguments is raised.

    So what comes of them does not depend on which was faster. A cancellation ends all of them.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks, return_exceptions=True)
        return tuple(map(asyncio.Future.result, tasks))
    finally:
        await cancel(*tasks)
        del tasks  # one may hold the error, whose frames hold this one's variables, and the job's payload
