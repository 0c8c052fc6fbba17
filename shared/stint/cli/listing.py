"""The beginnings of lists, and lists whose filters are a command's options."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from stint.client import ApiRefusedError
from stint.client.client import PAGE
from stint.core.errors import ConfigError

T = TypeVar("T")


@contextmanager
def filtered() -> Iterator[None]:
    """Around a request for a list or a stream: what the API finds wrong in it is a wrong option, a ConfigError."""
    try:
        yield
    except ApiRefusedError as error:
        if error.code != HTTPStatus.BAD_REQUEST:
            raise
        raise ConfigError(error.sentence) from None


async def first(count: int | None, listing: Callable[..., AsyncGenerator[T, None]], **wanted: Any) -> list[T]:
    """The first entries of a client's list: at most so many, or all. Asks for no more than that. As with `filtered`."""
    found: list[T] = []
    with filtered():
        async with aclosing(listing(page=min(count or PAGE, PAGE), **wanted)) as entries:
            async for entry in entries:
                found.append(entry)
                if len(found) == count:
                    break
    return found
