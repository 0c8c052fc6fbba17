"""What is done for each running job now, as its runner says."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from stint.core.phase import JobPhase
from stint.ports import PhaseChannel

GOOD: Final = 30.0
"""Seconds for which a report counts. A runner repeats it each 10 seconds."""
SIZE: Final = 20_000
"""Jobs of which a phase is remembered; the oldest report makes room."""


class Phases:
    """Remembers the last report on each job."""

    def __init__(
        self,
        channel: PhaseChannel,
        *,
        connected: Callable[[], Awaitable[object]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connected` returns once there is a connection to NATS."""
        self._channel = channel
        self._connected = connected
        self._monotonic = monotonic
        self._heard: OrderedDict[str, tuple[float, JobPhase]] = OrderedDict()
        self._watching: dict[str, set[asyncio.Event]] = {}

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._connected()
        async with self._channel.hear() as reports:
            async for job_id, phase in reports:
                self._heard.pop(job_id, None)
                self._heard[job_id] = (self._monotonic() + GOOD, phase)
                if len(self._heard) > SIZE:
                    self._heard.popitem(last=False)
                for news in self._watching.get(job_id, ()):
                    news.set()

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that each report on the job sets during the block."""
        news = asyncio.Event()
        watching = self._watching.setdefault(job_id, set())
        watching.add(news)
        try:
            yield news
        finally:
            watching.discard(news)
            if not watching:
                del self._watching[job_id]

    def of(self, job_id: str) -> JobPhase | None:
        """What is done for a job, None if nobody has said it lately."""
        until, phase = self._heard.get(job_id, (0.0, None))
        return phase if self._monotonic() < until else None
