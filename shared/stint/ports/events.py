"""The port to the event log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from stint.core.events import AnyEvent
from stint.core.job import Job


class Outcome(Enum):
    """The result of an append. There is no fourth one, and `UNKNOWN` is not a failure."""

    WON = "won"
    """The log contains our events."""
    LOST = "lost"
    """Another writer's event came first; ours are not in the log."""
    UNKNOWN = "unknown"
    """It is not known yet whether the broker has stored, or will store, the events. Read again later; never assume."""


class EventLog(Protocol):
    """The source of truth: events in one order, each kind at most once per job."""

    async def append(self, token: str, job_id: str, *events: AnyEvent, after: int | None = None) -> Outcome:
        """Append events of one job, all or none.

        Safe to repeat with the same events: `event_id` identifies them.

        Args:
            token: the queue's token.
            job_id: the job's id.
            events: one event, or several that must be stored together.
            after: the aggregate's `sequence` on which the decision was based: if the job has a newer event, the append
                loses. None only requires that the job has no event of this kind yet.

        Raises:
            BrokerUnavailableError: nothing was stored, nor will be. If that is not certain, the result is `UNKNOWN`.
            TooLargeError: the event is larger than the broker accepts. Nothing was sent.
        """
        ...

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        """The job computed from all its events, None if it does not exist. Only the stream's leader can say the latter.

        `at_least` is a sequence that the caller knows of: an older aggregate is not accepted either.
        """
        ...

    def job_ids(self) -> AsyncIterator[str]:
        """The ids of all jobs in the log, oldest first. An id can occur twice."""
        ...

    async def record_rejection(self, stream_sequence: int, event: AnyEvent) -> Outcome:
        """Record once that the message of WORK with this sequence names no queue or job and was discarded."""
        ...

    def follow(self, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever the job may have changed. Load the job after entering, to miss nothing."""
        ...
