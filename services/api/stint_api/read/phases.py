"""What is done for each running job now, as its runner says."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from stint.core.phase import JobPhase
from stint.ports import PhaseChannel, Place

GOOD: Final = 30.0
"""Seconds for which a report counts. A runner repeats it each 10 seconds."""
SIZE: Final = 20_000
"""Reports that are remembered at most, if so many count; the oldest makes room."""


@dataclass(eq=False)
class Phases:
    """Remembers the last report on each job. One on a job as if it were in another queue says nothing of it.

    `connected` returns once there is a connection to NATS.
    """

    channel: PhaseChannel
    connected: Callable[[], Awaitable[object]]
    monotonic: Callable[[], float] = time.monotonic
    _heard: OrderedDict[Place, tuple[float, JobPhase]] = field(default_factory=OrderedDict)
    _watching: dict[Place, set[asyncio.Event]] = field(default_factory=dict)

    async def run(self) -> None:
        """Listen until cancelled."""
        await self.connected()
        async with self.channel.hear() as reports:
            async for place, phase in reports:
                now = self.monotonic()
                self._heard.pop(place, None)
                self._heard[place] = (now + GOOD, phase)
                while len(self._heard) > SIZE or next(iter(self._heard.values()))[0] <= now:
                    self._heard.popitem(last=False)
                for news in self._watching.get(place, ()):
                    news.set()

    @contextmanager
    def watch(self, place: Place) -> Iterator[asyncio.Event]:
        """An event that each report on the job sets during the block."""
        news = asyncio.Event()
        watching = self._watching.setdefault(place, set())
        watching.add(news)
        try:
            yield news
        finally:
            watching.discard(news)
            if not watching:
                del self._watching[place]

    def of(self, place: Place) -> JobPhase | None:
        """What is done for a job, None if nobody has said it lately."""
        until, phase = self._heard.get(place, (0.0, None))
        return phase if self.monotonic() < until else None
