"""When the data of which job must be removed."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime

from stint.ports import Place
from stint.process.waiting import any_of


class Agenda:
    """Ended jobs, and the times from which they can no longer be read.

    It is in memory only. After a restart, or if another projector saw a job's end, a sweep adds what is missing.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._moments: dict[Place, datetime] = {}
        self._heap: list[tuple[datetime, Place]] = []
        self._new_head = asyncio.Event()

    def __contains__(self, place: Place) -> bool:
        return place in self._moments

    def put(self, place: Place, moment: datetime) -> None:
        """Add a job, or change its time."""
        if self._moments.get(place) == moment:
            return
        self._moments[place] = moment
        heapq.heappush(self._heap, (moment, place))
        if self._heap[0] == (moment, place):
            self._new_head.set()

    def drop(self, place: Place) -> None:
        """Remove a job, if it is present."""
        self._moments.pop(place, None)

    def take_due(self) -> list[Place]:
        """Remove and return the jobs whose time has come, the earliest first."""
        now, due = self._now(), []
        while self._heap and self._heap[0][0] <= now:
            moment, place = heapq.heappop(self._heap)
            if self._moments.get(place) == moment:
                del self._moments[place]
                due.append(place)
        return due

    async def wait(self, until: datetime) -> None:
        """Return when a job is due, or at `until`."""
        while (moment := min(self._heap[0][0] if self._heap else until, until)) > (now := self._now()):
            self._new_head.clear()
            await any_of(self._new_head, within=(moment - now).total_seconds())
