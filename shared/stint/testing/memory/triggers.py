"""Who listens for what is stored in memory."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Triggers(Generic[T]):
    """Sets the events of everyone who listens for this."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, tuple[T, Collection[str]]] = {}

    def fire(self, about: T, kind: str = "") -> None:
        for event, (wanted, kinds) in self._listeners.items():
            if wanted == about and (not kinds or kind in kinds):
                event.set()

    @asynccontextmanager
    async def listen(self, about: T, kinds: Collection[str] = ()) -> AsyncIterator[asyncio.Event]:
        event = asyncio.Event()
        self._listeners[event] = (about, kinds)
        try:
            yield event
        finally:
            del self._listeners[event]
