"""The port to the events of all jobs, for the projector only. Others load single jobs from the event log."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol


class Place(NamedTuple):
    """The queue's token and the job's id under which something is stored.

    Both are parts of the subject. Neither needs to belong to an existing queue or job, but neither is a wildcard.
    """

    token: str
    job_id: str


class Stamp(NamedTuple):
    """When a message was stored.

    Attributes:
        sequence: of the message in its stream.
        time: the stream's time.
    """

    sequence: int
    time: datetime


class Strays(NamedTuple):
    """Differences between the log and the work queues.

    Attributes:
        missing: places with a submission, but no end, and nothing in a work queue.
        over: places with an end, whose submission is still in a work queue.
    """

    missing: Collection[Place]
    over: Collection[Place]


class History(Protocol):
    """Reads events in bulk, and removes old ones. Raises `BrokerUnavailableError` as the other ports do."""

    async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
        """The stream's time of each job's end, "" if it has not ended.

        Places without a job, or with a deleted one, are omitted.

        A cheap hint: it may come from a lagging replica, and events are not checked against each other. Load the job
        before anything is removed.
        """
        ...

    async def submitted(self) -> Collection[Place]:
        """The places with a submission. A hint, as from `survey`."""
        ...

    async def in_work(self) -> Collection[str]:
        """Ids of jobs whose submission is in a work queue or with a runner."""
        ...

    async def strays(self) -> Strays | None:
        """Jobs that are missing from the work queues, or in one although they are over. None while the queues lag.

        A hint, as from `survey`; a place or an event need not belong to a job. A healthy job is included for a moment
        at most.
        """
        ...

    async def is_in_work(self, place: Place) -> bool:
        """Whether the submission is in a work queue or with a runner. Never answered from a lagging replica."""
        ...

    async def take_from_work(self, place: Place) -> None:
        """Remove the submission from its work queue, whichever runner has it; the queue continues. Safe to repeat."""
        ...

    def older_than(self, moment: datetime) -> AsyncIterator[str]:
        """Ids with events older than `moment`, readable or not. An id can occur more than once.

        The events may be removed with `forget` during the iteration.
        """
        ...

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        """Remove all events under this id, in every queue. False, and nothing is removed, if one is not that old.

        Safe to repeat. An event that is appended meanwhile stays. A job that was submitted to two queues does not
        reappear in the second one during the removal.
        """
        ...
