"""Who listens for what is stored in memory."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from stint.ports import News

T = TypeVar("T")


class Triggers(Generic[T]):
    """Gives the news to everyone who listens for this."""

    def __init__(self) -> None:
        self._listeners: dict[News, tuple[T, Collection[str]]] = {}

    def fire(self, about: T, sequence: int, kind: str = "") -> None:
        for news, (wanted, kinds) in self._listeners.items():
            if wanted == about and (not kinds or kind in kinds):
                news.announce(sequence)

    @asynccontextmanager
    async def listen(self, about: T, kinds: Collection[str] = ()) -> AsyncIterator[News]:
        news = News()
        self._listeners[news] = (about, kinds)
        try:
            yield news
        finally:
            del self._listeners[news]
