"""The event log, and its history."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from stint.core.events import AnyEvent
from stint.core.job import Job
from stint.ports.common import News, Place


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

    async def append(
        self, token: str, job_id: str, *events: AnyEvent, after: int | None = None, unless: str = ""
    ) -> Outcome:
        """Append events of one job, in this order. Safe to repeat with the same events: `event_id` identifies them.

        `after` is the aggregate's `sequence` on which the decision was based: if the job has a newer event, the append
        loses. None only requires that the job has no event of this kind yet, and none of the kind `unless`. Of several
        events, which need `after`, each is appended only if the one before is the job's last. An append that has lost,
        or failed, may have stored the first of them: decide anew.

        Raises:
            BrokerUnavailableError: the last event was not stored, nor will be. If that is not certain, the result is
                `UNKNOWN`.
            TooLargeError: the event is larger than the broker accepts. Nothing was sent.
        """

    async def bar(self, token: str, job_id: str, *, after: int) -> bool:
        """Add a message that says nothing, so that whoever has decided on the job's earlier events loses his append.

        False, and nothing is added, if the job's `sequence` is not `after` any more. Also if that is not known; then
        there may be one bar more. After a BrokerUnavailableError it is not known whether it was added.
        """

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        """The job computed from all its events, None if it does not exist. Only the stream's leader can say the latter.

        `at_least` is a sequence that the caller knows of: an older aggregate is returned only if the log is proven to
        have nothing newer. So it is with a sequence that no event has. Without it, the newest events may be missing.
        """

    async def current(self, job_id: str) -> Job | None:
        """The same, with everything that was acknowledged before the call, because the caller may know of it.

        Only while no server leads the stream, the newest events may be missing.
        """

    def job_ids(self) -> AsyncIterator[str]:
        """The ids of all jobs in the log, oldest first. An id can occur twice."""

    def follow(self, job_id: str) -> AbstractAsyncContextManager[News]:
        """News whenever the job may have changed. Load the job after entering, to miss nothing."""

    def follow_kinds(self, token: str, job_id: str, *kinds: str) -> AbstractAsyncContextManager[News]:
        """The same for events of these kinds, of a job in this queue: a pool may hear them."""


class Fact(NamedTuple):
    """An event of a job, without its content. The subject need not name a queue or a job."""

    job_id: str
    sequence: int
    time: datetime


class Strays(NamedTuple):
    """Differences between the payloads and the work queues, which both have a job from its submission to its end.

    `missing` from the work queues are places with a payload; `over` are those with a submission there, and no payload.
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

    async def strays(self) -> Strays | None:
        """Jobs in the payloads or the work queues only, healthy ones for a moment. None while the queues lag."""

    async def is_in_work(self, place: Place) -> bool:
        """Whether the submission is in a work queue or with a runner. Never answered from a lagging replica."""

    async def is_waiting(self, job_id: str) -> bool:
        """Whether a submission under this id is in any work queue. It must not be a wildcard."""

    async def take_from_work(self, place: Place) -> None:
        """Remove the submission from its work queue, whichever runner has it; the queue continues. Safe to repeat."""

    async def remove_acknowledged(self, token: str) -> None:
        """Remove what the queue's runners have acknowledged, and is still in the queue. Safe at any time."""

    def older_than(self, moment: datetime) -> AsyncIterator[str]:
        """Ids with events older than `moment`, readable or not. An id can occur more than once.

        The events may be removed with `forget` during the iteration.
        """

    async def forget_unnamed(self, before: datetime) -> None:
        """Remove the empty messages by which absences were proven, and old ones whose subjects no filter can name.

        Of the latter only the log's first messages, and the first payloads and output of a queue: behind older ones
        they wait. Safe at any time.
        """

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        """Remove all events under this id, in every queue. False, and nothing is removed, if one is not that old.

        Safe to repeat. An event that is appended meanwhile stays. A job that was submitted to two queues does not
        reappear in the second one during the removal.
        """
