"""The pauses of queues."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from stint.core.pause import Pause


class Pauses(Protocol):
    """Which queues are paused.

    A stored pause alone does not keep a runner from starting a job: the runner may have looked before, and be slow. So
    whoever pauses a queue then bars its next job (`EventLog.bar`). A runner loads a job, looks for a pause, and claims
    the job as it was loaded: either it has seen the pause, or its claim is refused.
    """

    async def find(self, token: str) -> Pause | None:
        """The queue's pause, None if it has none. Never answered from a lagging replica."""

    async def all(self) -> Mapping[str, Pause]:
        """All pauses, by the queues' tokens. May lag a moment."""

    async def put(self, token: str, pause: Pause) -> None:
        """Pause a queue; another pause of it is replaced. Safe to repeat."""

    async def remove(self, token: str) -> None:
        """End a queue's pause, if it has one, and let one of the runners know that it has work. Safe to repeat."""

    def waiting(self, token: str) -> AsyncIterator[str]:
        """The ids of the jobs in a work queue, first the one that is next or with a runner.

        Never answered from a lagging replica. A job that is over may still be there for a moment.
        """
