"""Reports of what is done for each job now, in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stint.core.phase import JobPhase
from stint.ports import PhaseReport, Place


class MemoryPhases:
    """See `stint.ports.PhaseChannel`. Each report reaches one listener."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[PhaseReport] = asyncio.Queue()

    async def tell(self, place: Place, phase: JobPhase) -> None:
        """Tell it."""
        await self.told.put(PhaseReport(place.job_id, phase))

    @asynccontextmanager
    async def hear(self) -> AsyncIterator[AsyncIterator[PhaseReport]]:
        """Whatever is told, and was told before."""

        async def reports() -> AsyncIterator[PhaseReport]:
            while True:
                yield await self.told.get()

        yield reports()
