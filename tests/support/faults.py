"""Calls that fail as a test says."""

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def failing(call: Callable[P, Awaitable[T]], *errors: Exception) -> Callable[P, Any]:
    """The same call, which raises these errors first, one each time."""
    left = iter(errors)

    async def tried(*arguments: P.args, **options: P.kwargs) -> T:
        if error := next(left, None):
            raise error
        return await call(*arguments, **options)

    return tried
