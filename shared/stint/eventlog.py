"""The ports to the broker: the event log, the payloads, the output, the work queues and the view.

`stint.jetstream` implements them on NATS JetStream, `stint.testing` in memory (all but the work queues, whose leases
only a real server has); one contract suite runs on both.
Every method raises `BrokerUnavailableError` when the broker cannot be reached or does not answer.

Live messages are triggers: anybody can publish where they are listened to. So `follow` gives an event that is set, and
what counts is read from the streams. Clear the event, then read: what comes in between sets it again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from enum import Enum
from typing import Protocol

import msgspec

from stint.events import AnyEvent
from stint.history import Place, Stamp
from stint.job import Job


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


class PayloadStore(Protocol):
    """Sealed payloads, write-once, until the job has ended."""

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        """Store a payload in chunks; returns how many. Repeating the same call is safe.

        `attempt` keeps the chunks of several tries at one job apart.
        """
        ...

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        """The whole payload, as this attempt stored it.

        Raises:
            UndecodableError: a chunk is missing.
        """
        ...

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        """Remove it; with `through` only chunks up to that sequence. Safe to repeat."""
        ...

    async def places(self) -> Collection[Place]:
        """Where there are payloads, whole or not. What is stored or purged meanwhile may lack or be among them."""
        ...

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        """Of the last chunk that was stored here, None if there is none."""
        ...


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a job's output.

    Attributes:
        number: from 1, without gaps.
        offset: bytes of output before it.
        stream: `stdout`, `stderr` or `tty`.
        digest: hex SHA-256 of the previous chunk's digest (hex, "" for the first) followed by `data`.
        data: the raw bytes.
        sequence: of the message in LOGS, 0 for a chunk not yet stored.
    """

    number: int
    offset: int
    stream: str
    digest: str
    data: bytes
    sequence: int = 0


class OutputLog(Protocol):
    """The output of jobs, numbered and chained."""

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        """Append a chunk behind the one of sequence `after` (0 for the first); returns its sequence.

        Safe to repeat with the same chunk.

        Raises:
            LogGapError: the last chunk there is another one.
        """
        ...

    async def last(self, token: str, job_id: str) -> Chunk | None:
        """The last chunk."""
        ...

    def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """The chunks with sequence above `after`, in order, up to the last one there is now."""
        ...

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Set whenever there may be a new chunk, from now on. Read after entering, so that none is missed."""
        ...

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the output. Safe to repeat."""
        ...

    async def places(self) -> Collection[Place]:
        """Where there is output. What is stored or purged meanwhile may lack or be among them."""
        ...


class Delivery(Protocol):
    """A pending job, leased to whoever received it.

    JetStream does not fence: a renewal is answered, and an ack taken, whoever holds the message by then. So none of
    these is evidence of anything but that the broker answered; `stint_runner.lease` draws the conclusions.
    """

    @property
    def subject(self) -> str:
        """`ev.submitted.<token>.<job_id>`, or whatever was published there."""
        ...

    @property
    def sequence(self) -> int:
        """In WORK."""
        ...

    @property
    def ack_subject(self) -> str:
        """Where renewals and the ack go; works from another process too."""
        ...

    @property
    def origin(self) -> str:
        """Which consumer it came from, told apart from any that is made later under the same name.

        A work queue that was lost and made again counts anew: there an old ack would remove another job.
        """
        ...

    @property
    def lease(self) -> float:
        """For how many seconds the broker leaves it to its holder, whatever lease this runner would have set."""
        ...

    @property
    def count(self) -> int:
        """How often this consumer has delivered the job, from 1.

        1 of a job that has started says that the consumer was made anew, not that the job's holder was lost.
        """
        ...

    async def renew(self) -> None:
        """Ask for another full lease, and return once the broker answered.

        Raises:
            ConsumerGoneError: the queue has no consumer any more. The job is its first one still.
        """
        ...

    async def ack(self) -> None:
        """The job has ended: remove it, so that the queue goes on. Returns once the broker confirmed it.

        Raises:
            LeaseLostError: the queue's last delivery is another one. Nothing was sent.
        """
        ...

    async def give_back(self, delay: float = 0) -> None:
        """Not wanted: deliver it to the next who asks, but not within `delay` seconds."""
        ...


class WorkQueues(Protocol):
    """Pending jobs by queue. Each queue hands out one at a time."""

    async def pull(self, token: str, wait: float) -> Delivery | None:
        """The queue's next job, None if there is none or it is busy. Waits at most about `wait` seconds.

        Makes the queue's consumer if it has none. A delivery that cannot be returned, since the broker fails amid the
        pull, is given back.
        """
        ...

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> Delivery | None:
        """A delivery that an earlier process of this runner had, leased anew for a full lease.

        None if it is not the queue's last one any more: then the job is another's, or nobody's.
        """
        ...

    async def pending(self) -> Sequence[str]:
        """Tokens of the queues that have jobs, in no order."""
        ...

    def hints(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Tokens of queues as jobs come in, from now on. May miss some; `pending` does not."""
        ...

    async def hint(self, token: str) -> None:
        """Tell all runners that this queue has work."""
        ...


class StoredView(msgspec.Struct, frozen=True, kw_only=True):
    """A view as the bucket holds it. `value` is None once the key was deleted or expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewStore(Protocol):
    """The KV bucket of views."""

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""
        ...

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> bool:
        """Write a view if the key is still at `revision` (0: has none). False if it is not."""
        ...

    async def delete(self, job_id: str) -> None:
        """Remove a view. Safe to repeat."""
        ...

    async def job_ids(self) -> Collection[str]:
        """Of which jobs there is a view, or was a moment ago."""
        ...

    def follow(self) -> AbstractAsyncContextManager[AsyncIterator[StoredView | None]]:
        """Every view there is, then None once, then every change.

        It ends where views may have gone without a word, as when the bucket was purged or made anew: follow again then.
        """
        ...
