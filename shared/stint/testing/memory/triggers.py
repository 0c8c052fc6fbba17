"""Who listens for what is stored in memory."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from stint.ports import News

T = TypeVar("T")


class Triggers(Generic[T]):
    """Gives the news to everyone who listens for this."""

    def __init__(self) -> None:
        self._listeners: dict[News, Collection[T]] = {}

    def fire(self, about: T, sequence: int) -> None:
        for news, wanted in self._listeners.items():
            if about in wanted:
                news.announce(sequence)

    @asynccontextmanager
    async def listen(self, *about: T) -> AsyncIterator[News]:
        news = News()
        self._listeners[news] = about
        try:
            yield news
        finally:
            del self._listeners[news]
