"""The port to the event log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from stint.core.events import AnyEvent
from stint.core.job import Job


class Outcome(Enum):
    """What became of an append. There is no fourth answer, and `UNKNOWN` is not a failure."""

    WON = "won"
    """The facts are in the log, and they are ours."""
    LOST = "lost"
    """They are not: somebody else's fact came first."""
    UNKNOWN = "unknown"
    """The broker took them or will take them or not: nobody can say yet. Read again later; never assume."""


class EventLog(Protocol):
    """The truth: facts, each at most once per job, in one order."""

    async def append(self, token: str, job_id: str, *events: AnyEvent, after: int | None = None) -> Outcome:
        """Append facts of one job, all or none.

        Safe to repeat with the same events: `event_id` tells whose facts are stored.

        Args:
            token: the queue's token.
            job_id: the job's id.
            events: one fact, or several that must stand together.
            after: the aggregate's `sequence` that the decision was made on: if the job has a newer fact, the append
                loses. None asks only that this fact has not happened yet.

        Raises:
            BrokerUnavailableError: nothing was taken, nor will be. Where that is not sure the outcome is `UNKNOWN`.
            TooLargeError: the event is larger than the broker takes. Nothing was sent.
        """
        ...

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        """The job from all its facts, None if it does not exist: absence is only believed of the stream's leader.

        `at_least` is a sequence that the caller knows of: an older aggregate is not believed either.
        """
        ...

    def job_ids(self) -> AsyncIterator[str]:
        """The ids of all jobs that the log holds, oldest first. A job can come twice."""
        ...

    async def record_rejection(self, stream_sequence: int, event: AnyEvent) -> Outcome:
        """Record once that the WORK message of this sequence names no queue or job and was thrown away."""
        ...

    def follow(self, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Set whenever the job may have a new fact, from now on. Load after entering, so that none is missed."""
        ...
