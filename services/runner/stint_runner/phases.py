"""Reports what this runner does for each of its jobs now."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, Protocol

from stint.core.errors import BrokerUnavailableError
from stint.core.phase import JobPhase, Phase
from stint.ports import PhaseChannel, Place
from stint.process.waiting import any_of

PAUSE: Final = 0.2  # seconds from a change to its report: most phases are shorter, and need none
AGAIN: Final = 10.0  # seconds until all is reported again: reports can be lost, and a new listener has heard none


class Report(Protocol):
    """Takes what is done for a job from now on."""

    def __call__(self, phase: Phase, progress: float | None = None) -> None:
        """`progress` from 0 to 1, if it is known."""


class Phases:
    """The phases of the jobs that run here."""

    def __init__(self, channel: PhaseChannel) -> None:
        self._channel = channel
        self._jobs: dict[Place, JobPhase] = {}
        self._told: dict[Place, JobPhase] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def of(self, place: Place) -> Iterator[Report]:
        """Reports on a job during the block, which begins with `opening`."""
        self._set(place, "opening")
        try:
            yield partial(self._set, place)
        finally:
            del self._jobs[place]
            self._told.pop(place, None)

    def _set(self, place: Place, phase: Phase, progress: float | None = None) -> None:
        self._jobs[place] = JobPhase(phase=phase, progress=progress)
        self._changed.set()

    async def run(self) -> None:
        """Report changes, and everything from time to time, until cancelled."""
        loop, all_due = asyncio.get_running_loop(), 0.0
        while True:
            await any_of(self._changed, within=max(0.0, all_due - loop.time()))
            await asyncio.sleep(PAUSE)
            self._changed.clear()
            if loop.time() >= all_due:
                self._told.clear()
                all_due = loop.time() + AGAIN
            with suppress(BrokerUnavailableError):  # it is reported with the next change, or when everything is
                await self._tell()

    async def _tell(self) -> None:
        for place, phase in list(self._jobs.items()):
            if self._told.get(place) != phase:
                await self._channel.tell(place, phase)
                self._told[place] = phase
