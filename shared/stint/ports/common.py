"""What several ports need: where and when something is stored, news of it, and reports that are not stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from stint.core.phase import JobPhase


class Place(NamedTuple):
    """The queue's token and the job's id in a subject. Neither need exist, but neither is a wildcard."""

    token: str
    job_id: str


class Stamp(NamedTuple):
    """A stored message's sequence in its stream, and the time by the stream's clock."""

    sequence: int
    time: datetime


class StreamState(NamedTuple):
    """A stream at one moment, or the one behind a bucket, whose sequences are the revisions.

    Attributes:
        created: when it was made, in RFC 3339. It differs from that of a stream that is made anew.
        first: sequence of the oldest message, or of the next one if there is none.
        last: sequence of the newest message there ever was.
    """

    created: str
    first: int
    last: int


class News(asyncio.Event):
    """Set whenever there may be something new. Clear it first, or take the news, and then read the stream.

    `sequence` is that of the newest message that was announced since the last `take`, 0 if none was. Anybody may
    announce one, so there may be no such message.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0

    def announce(self, sequence: int) -> None:
        """There may be a message with this sequence."""
        self.sequence = max(self.sequence, sequence)
        self.set()

    def take(self) -> int:
        """Clear the event; returns `sequence`, and forgets it."""
        sequence, self.sequence = self.sequence, 0
        self.clear()
        return sequence


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
