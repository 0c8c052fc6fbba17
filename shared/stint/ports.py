"""The ports to the broker: the event log, the payloads, the output, the work queues and the views.

`stint.jetstream` implements them with NATS JetStream, `stint.testing` in memory (except the work queues, whose leases
only a real server has). One contract suite tests both.
Every method raises `BrokerUnavailableError` if the broker cannot be reached or does not answer.

Live messages are only triggers, because anybody may publish on their subjects. Therefore `follow` sets an
`asyncio.Event`, and the data is read from the streams. Clear the event first, then read: a later message sets it again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, Protocol

from stint.core.chain import Chunk
from stint.core.events import AnyEvent
from stint.core.job import Job


class Place(NamedTuple):
    """The queue's token and the job's id under which something is stored.

    Both are parts of the subject. Neither needs to belong to an existing queue or job, but neither is a wildcard.
    """

    token: str
    job_id: str


class Stamp(NamedTuple):
    """A stored message's sequence in its stream, and the time by the stream's clock."""

    sequence: int
    time: datetime


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
        """Append events of one job, all or none. Safe to repeat with the same events: `event_id` identifies them.

        `after` is the aggregate's `sequence` on which the decision was based: if the job has a newer event, the append
        loses. None only requires that the job has no event of this kind yet.

        Raises:
            BrokerUnavailableError: nothing was stored, nor will be. If that is not certain, the result is `UNKNOWN`.
            TooLargeError: the event is larger than the broker accepts. Nothing was sent.
        """

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        """The job computed from all its events, None if it does not exist. Only the stream's leader can say the latter.

        `at_least` is a sequence that the caller knows of: an older aggregate is not accepted either.
        """

    def job_ids(self) -> AsyncIterator[str]:
        """The ids of all jobs in the log, oldest first. An id can occur twice."""

    async def record_rejection(self, stream_sequence: int, event: AnyEvent) -> Outcome:
        """Record once that the message of WORK with this sequence names no queue or job and was discarded."""

    def follow(self, job_id: str, *kinds: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever the job may have changed. Load the job after entering, to miss nothing.

        With `kinds` only events of these kinds set it.
        """


class Fact(NamedTuple):
    """An event of a job, without its content. The subject need not name a queue or a job."""

    job_id: str
    sequence: int
    time: datetime


class Strays(NamedTuple):
    """Differences between the payloads and the work queues, which both have a job from its submission to its end.

    Attributes:
        missing: places with a payload, and nothing in a work queue.
        over: places with a submission in a work queue, and no payload.
    """

    missing: Collection[Place]
    over: Collection[Place]


class History(Protocol):
    """The events of all jobs, for the projector only. Others load single jobs from the event log.

    What `survey`, `facts` and `strays` return is a hint: it may come from a lagging replica, and a place or an event
    need not belong to a job. Load the job before anything is removed.
    """

    async def survey(self, job_ids: Collection[str]) -> Mapping[Place, str]:
        """The stream's time of each job's end, "" if it has not ended, by the queues that it was submitted to.

        Ids without a job, or with a deleted one, are omitted. None of the ids may be a wildcard.
        """

    async def facts(self, kind: str, *, after: int, since: datetime) -> Sequence[Fact]:
        """The next events of one kind with a sequence above `after`, oldest first. Empty if there are none.

        If `after` is 0, they begin with the first one that is not older than `since`.
        """

    async def in_work(self) -> Collection[Place]:
        """The places whose submission is in a work queue or with a runner."""

    async def strays(self) -> Strays | None:
        """Jobs that are in the payloads or in the work queues only. None while the queues lag.

        A healthy job is included for a moment at most.
        """

    async def is_in_work(self, place: Place) -> bool:
        """Whether the submission is in a work queue or with a runner. Never answered from a lagging replica."""

    async def is_waiting(self, job_id: str) -> bool:
        """Whether a submission under this id is in any work queue. It must not be a wildcard."""

    async def take_from_work(self, place: Place) -> None:
        """Remove the submission from its work queue, whichever runner has it; the queue continues. Safe to repeat."""

    def older_than(self, moment: datetime) -> AsyncIterator[str]:
        """Ids with events older than `moment`, readable or not. An id can occur more than once.

        The events may be removed with `forget` during the iteration.
        """

    async def forget_barriers(self) -> None:
        """Remove the empty messages by which absences were proven. Safe at any time."""

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        """Remove all events under this id, in every queue. False, and nothing is removed, if one is not that old.

        Safe to repeat. An event that is appended meanwhile stays. A job that was submitted to two queues does not
        reappear in the second one during the removal.
        """


class OutputLog(Protocol):
    """The output of jobs, numbered and chained."""

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        """Append a chunk after the one with sequence `after` (0 for the first); returns its sequence.

        Safe to repeat with the same chunk.

        Raises:
            LogGapError: the last stored chunk is a different one.
        """

    async def last(self, token: str, job_id: str) -> Chunk | None:
        """The last message, None if there is none. Its number is 0 if it is no chunk: anybody may write there."""

    def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        """The messages with a sequence above `after`, in order, up to the current last one; see `last`."""

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever there may be a new chunk. Read after entering, so that none is missed."""

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the output. Safe to repeat."""

    def places(self) -> AsyncIterator[Collection[Place]]:
        """The places with output, in parts. If there are changes meanwhile, some places may be omitted."""


class PayloadStore(Protocol):
    """Sealed payloads, write-once, until the job has ended."""

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        """Store a payload in chunks; returns their number. Safe to repeat.

        `attempt` separates the chunks of several attempts at one submission.
        """

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        """The whole payload that this attempt stored.

        Raises:
            UndecodableError: a chunk is missing.
        """

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        """Remove the payload; with `through` only chunks up to that sequence. Safe to repeat."""

    async def purge_all(self, places: Collection[Place]) -> None:
        """Remove the payloads of these places, which may be many. Safe to repeat."""

    async def places(self) -> Collection[Place]:
        """The places with payloads, complete or not. Changes during the call may or may not be included."""

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        """The stamp of the last chunk at this place, None if there is none."""


class StoredView(NamedTuple):
    """An entry of the bucket. `value` is None if the key was deleted or has expired."""

    job_id: str
    revision: int
    value: bytes | None


class ViewPut(NamedTuple):
    """A view to be written if the key is still at `revision`; 0: the key does not exist. It expires after `ttl`."""

    job_id: str
    value: bytes
    revision: int
    ttl: timedelta | None


class BucketState(NamedTuple):
    """A bucket at one moment.

    Attributes:
        created: differs from that of a bucket that is made anew.
        first: revision of the oldest entry, or of the next one if there is none.
        last: revision of the newest entry there ever was.
    """

    created: str
    first: int
    last: int


class ViewStore(Protocol):
    """The KV bucket of views.

    Attributes:
        deletions_kept: seconds for which the deletion or expiry of a key can be followed afterwards.
    """

    deletions_kept: float

    async def get(self, job_id: str) -> StoredView | None:
        """The stored view, None if there is none."""

    async def put(self, job_id: str, value: bytes, *, revision: int, ttl: timedelta | None) -> int:
        """Write a view if the key is still at `revision`; returns its new revision, 0 if it is not. See `ViewPut`."""

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        """Write up to 1000 views of different jobs; returns their revisions.

        If one key is no longer at its revision, the result is empty, and the others are written or not.
        """

    async def delete(self, job_id: str) -> None:
        """Remove a view. Safe to repeat."""

    async def page(self, *, after: int = 0) -> Sequence[StoredView]:
        """The next entries with a revision above `after`, in this order. Empty at the end."""

    async def job_ids(self) -> Collection[str]:
        """The ids of the jobs that have a view, or had one a moment ago."""

    async def state(self) -> BucketState:
        """By which a follower notices that views disappeared without a message: by a purge, or with the bucket."""

    def follow(self, *, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StoredView]]]:
        """The entries with a revision above `after`, page by page, and then every change.

        A page is empty whenever all that there is has been given; with NATS there is one at least once in a second. The
        iterator raises `BrokerUnavailableError` when it cannot continue. Then follow again, after the last revision.
        """


class Turn(Enum):
    """What a queue can deliver."""

    FREE = "free"
    """It has a job that nobody holds, or whose holder's lease may be over. Or it was never pulled."""
    HELD = "held"
    """Its next job was delivered. Also if that was given back without a delay, until the lease would have been over."""
    EMPTY = "empty"
    """It has no job, as far as the broker knows: a job that was submitted a moment ago may not count yet."""


class Look(NamedTuple):
    """A queue as it was a moment ago. With it, `pull` needs one request less. `consumer` is the broker's own matter."""

    turn: Turn
    consumer: object = None


class Hint(NamedTuple):
    """A message that a queue has work.

    Attributes:
        passed: how many runners have passed it on.
        returned: whether the queue's next job was given back.
        ours: whether this runner itself sent it, or was the last to pass it on.
    """

    token: str
    passed: int = 0
    returned: bool = False
    ours: bool = False


class Delivery(Protocol):
    """A pending job, leased to the runner that received it.

    JetStream does not fence: it answers renewals and accepts acks even if another runner has the message by then. So
    these calls only prove that the broker answered; `stint_runner.lease.lease` judges whether the lease still holds.

    Attributes:
        subject: `ev.<job_id>.<token>.submitted`, or another subject that somebody published on.
        sequence: of the message in WORK.
        ack_subject: the subject for renewals and the ack. Another process can use it too.
        origin: identifies the consumer that delivered it, and differs from that of a later consumer with the same name.
            A work queue that was lost and created again counts from 1, where an old ack would remove another job.
        lease: in seconds, as the consumer has it, which may differ from this runner's own setting.
        count: how often this consumer has delivered the job, from 1. If a started job has count 1, the consumer was
            created anew; its runner need not be lost.
        left: the queue as `ack` left it, if it has more jobs.
    """

    subject: str
    sequence: int
    ack_subject: str
    origin: str
    lease: float
    count: int
    left: Look | None

    async def renew(self) -> None:
        """Request another full lease; returns once the broker has answered.

        Raises:
            ConsumerGoneError: the queue no longer has a consumer. The job is still its first one.
        """

    async def ack(self) -> None:
        """Remove the job, which has ended, so that the queue continues. Returns once the broker has confirmed that.

        Raises:
            LeaseLostError: the queue's last delivery is another one. Nothing was sent.
        """

    async def give_back(self, delay: float = 0) -> None:
        """Nak: deliver the job to the next runner that asks, but not within `delay` seconds.

        Raises:
            LeaseLostError: the queue's last delivery is another one. Nothing was sent.
        """


class WorkQueues(Protocol):
    """Pending jobs by queue. Each queue delivers one at a time."""

    async def look(self, token: str) -> Look:
        """What the queue can deliver. Costs less than a pull in vain, and takes no time if there is nothing."""

    async def pull(self, token: str, wait: float, look: Look | None = None) -> Delivery | None:
        """The queue's next job, None if it has none or another job has its turn. Waits about `wait` seconds at most.

        Creates the queue's consumer if there is none. If the broker fails during the pull, a delivery that cannot be
        returned is given back. `look` must be of a moment ago.
        """

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> Delivery | None:
        """Renew a delivery of an earlier process of this runner for a full lease.

        None if it is no longer the queue's last one: then another runner has the job, or none has.
        """

    async def pending(self) -> Mapping[str, int]:
        """Tokens of the queues that have jobs, and how many, including those that are held."""

    def hints(self) -> AbstractAsyncContextManager[AsyncIterator[Hint]]:
        """Hints of jobs as they are submitted or given back, each to one of those who listen.

        Some may be missed; `pending` misses nothing.
        """

    async def hint(self, token: str, *, passed: int = 0, returned: bool = False) -> None:
        """Tell one of the runners that this queue has work; see `Hint`."""
