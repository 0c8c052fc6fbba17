"""Reports of what is done for each job now, in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stint.core.phase import JobPhase
from stint.ports import PhaseReport, Place


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
