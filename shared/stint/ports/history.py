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


class Strays(NamedTuple):
    """What does not fit together in the log and the work queues.

    Attributes:
        missing: where there is a submission, no end, and nothing in a work queue.
        over: where there is an end, and the submission is in a work queue still.
    """

    missing: Collection[Place]
    over: Collection[Place]


class History(Protocol):
    """Facts in bulk, and their end. Raises `BrokerUnavailableError` as the ports in `stint.ports` do."""

    async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
        """The stream's time of each job's end, "" for one that goes on. Places without a job, or a deleted one, lack.

        A hint, and cheap: a lagging replica is believed, and no fact is checked against the others. Before something
        is removed, the job must be loaded.
        """
        ...

    async def submitted(self) -> Collection[Place]:
        """Where there is a submission. A hint, as `survey` is."""
        ...

    async def in_work(self) -> Collection[str]:
        """Ids of jobs whose submission is in a work queue or with a runner."""
        ...

    async def strays(self) -> Strays | None:
        """What is missing from the work queues, or over in spite of them. None while they lag behind.

        A hint, as `survey` is, and neither the place nor the facts need to be those of any job. What goes on normally
        is among them for a moment at most.
        """
        ...

    async def is_in_work(self, place: Place) -> bool:
        """Whether its submission is in a work queue or with a runner. No lagging replica is believed."""
        ...

    async def take_from_work(self, place: Place) -> None:
        """Remove its submission from its work queue, which goes on, whoever has it. Safe to repeat."""
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
