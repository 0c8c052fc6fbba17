"""What is done for each job now, told by runners to whoever listens."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from stint.core.phase import JobPhase
from stint.ports.places import Place


class PhaseReport(NamedTuple):
    """A job's phase, as a runner told it. NATS sees to it that a pool's runner names a queue of the pool."""

    place: Place
    phase: JobPhase


class PhaseChannel(Protocol):
    """Reports that are stored nowhere. Each may be lost, and the next one replaces it."""

    async def tell(self, place: Place, phase: JobPhase) -> None:
        """Tell whoever listens."""

    def hear(self) -> AbstractAsyncContextManager[AsyncIterator[PhaseReport]]:
        """The reports of all runners, from now on. What is no report is left out."""
