"""The beginnings of lists."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from stint.client.client import PAGE

T = TypeVar("T")


async def first(count: int, listing: Callable[..., AsyncGenerator[T, None]], **wanted: Any) -> list[T]:
    """The first entries of a client's list, at most so many. No more are asked for than needed."""
    found: list[T] = []
    async with aclosing(listing(page=min(count, PAGE), **wanted)) as entries:
        async for entry in entries:
            found.append(entry)
            if len(found) == count:
                break
    return found
