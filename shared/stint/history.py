"""The port to what the log holds of all jobs, for the projector alone: who else looks at a job, loads it."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol


class Place(NamedTuple):
    """Under whose name something is stored: a queue's token and a job's id.

    Both are what the subject says. Neither needs to be the name of any queue or job, but no wildcard is among them.
    """

    token: str
    job_id: str


class Stamp(NamedTuple):
    """When a message was stored.

    Attributes:
        sequence: in its stream.
        time: the stream's.
    """

    sequence: int
    time: datetime


class History(Protocol):
    """Facts in bulk, and their end. Raises `BrokerUnavailableError` as the ports in `stint.eventlog` do."""

    async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
        """The stream's time of each job's end, "" for one that goes on. Places without a job, or a deleted one, lack.

        A hint, and cheap: a lagging replica is believed, and no fact is checked against the others. Before something
        is removed, the job must be loaded.
        """
        ...

    async def in_work(self) -> Collection[str]:
        """Ids of jobs whose submission is in a work queue or with a runner."""
        ...

    async def missing(self) -> Collection[Place] | None:
        """Where there is a submission, no end, and nothing in a work queue. None while the work queues lag behind.

        A hint, as `survey` is, and neither the place nor the facts need to be those of any job.
        """
        ...

    async def is_in_work(self, place: Place) -> bool:
        """Whether its submission is in a work queue or with a runner. No lagging replica is believed."""
        ...

    def older_than(self, moment: datetime) -> AsyncIterator[str]:
        """Ids under which facts stand that are older than `moment`, readable or not. An id can come more than once.

        It may be used to forget them on the way.
        """
        ...

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        """Remove all facts under this id, in whatever queue. False, and nothing is removed, if one is not that old.

        Safe to repeat. A fact that is appended meanwhile stays, and a job that was submitted twice does not show up in
        its second queue on the way.
        """
        ...
