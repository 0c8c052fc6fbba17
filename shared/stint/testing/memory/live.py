"""Who listens to what is stored and told, in memory."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from stint.core.phase import JobPhase
from stint.ports import News, PhaseReport, Place

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


class MemoryPhases:
    """See `stint.ports.PhaseChannel`."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[PhaseReport]] = set()
        self.heard = asyncio.Event()

    async def tell(self, place: Place, phase: JobPhase) -> None:
        for listener in self._listeners:
            listener.put_nowait(PhaseReport(place, phase))

    @asynccontextmanager
    async def hear(self) -> AsyncIterator[AsyncIterator[PhaseReport]]:
        listener: asyncio.Queue[PhaseReport] = asyncio.Queue()
        self._listeners.add(listener)
        self.heard.set()
        try:
            yield _reports(listener)
        finally:
            self._listeners.discard(listener)


async def _reports(listener: "asyncio.Queue[PhaseReport]") -> AsyncIterator[PhaseReport]:
    while True:
        yield await listener.get()
