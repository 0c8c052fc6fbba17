"""The port to pending jobs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Delivery(Protocol):
    """A pending job, leased to whoever received it.

    JetStream does not fence: a renewal is answered, and an ack taken, whoever holds the message by then. So none of
    these is evidence of anything but that the broker answered; `stint_runner.lease.lease` draws the conclusions.
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
