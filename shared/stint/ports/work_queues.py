"""The port to pending jobs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Delivery(Protocol):
    """A pending job, leased to the runner that received it.

    JetStream does not fence: it answers renewals and accepts acks even if another runner has the message by then. So
    these calls only prove that the broker answered; `stint_runner.lease.lease` judges whether the lease still holds.
    """

    @property
    def subject(self) -> str:
        """`ev.submitted.<token>.<job_id>`, or another subject that somebody published on."""
        ...

    @property
    def sequence(self) -> int:
        """The message's sequence in WORK."""
        ...

    @property
    def ack_subject(self) -> str:
        """The subject for renewals and the ack. Another process can use it too."""
        ...

    @property
    def origin(self) -> str:
        """Identifies the consumer that delivered it, and differs from that of a later consumer with the same name.

        A work queue that was lost and created again counts from 1, where an old ack would remove another job.
        """
        ...

    @property
    def lease(self) -> float:
        """The lease in seconds as the consumer has it, which may differ from this runner's own setting."""
        ...

    @property
    def count(self) -> int:
        """How often this consumer has delivered the job, from 1.

        If a started job has count 1, the consumer was created anew; its runner need not be lost.
        """
        ...

    async def renew(self) -> None:
        """Request another full lease; returns once the broker has answered.

        Raises:
            ConsumerGoneError: the queue no longer has a consumer. The job is still its first one.
        """
        ...

    async def ack(self) -> None:
        """Remove the job, which has ended, so that the queue continues. Returns once the broker has confirmed that.

        Raises:
            LeaseLostError: the queue's last delivery is another one. Nothing was sent.
        """
        ...

    async def give_back(self, delay: float = 0) -> None:
        """Nak: deliver the job to the next runner that asks, but not within `delay` seconds.

        Raises:
            LeaseLostError: the queue's last delivery is another one. Nothing was sent.
        """
        ...


class WorkQueues(Protocol):
    """Pending jobs by queue. Each queue delivers one at a time."""

    async def pull(self, token: str, wait: float) -> Delivery | None:
        """The queue's next job, None if it has none or another job has its turn. Waits about `wait` seconds at most.

        Creates the queue's consumer if there is none. If the broker fails during the pull, a delivery that cannot be
        returned is given back.
        """
        ...

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> Delivery | None:
        """Renew a delivery of an earlier process of this runner for a full lease.

        None if it is no longer the queue's last one: then another runner has the job, or none has.
        """
        ...

    async def pending(self) -> Sequence[str]:
        """Tokens of the queues that have jobs, in any order."""
        ...

    def hints(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Tokens of queues as jobs are submitted, from now on. It may miss some; `pending` does not."""
        ...

    async def hint(self, token: str) -> None:
        """Tell all runners that this queue has work."""
        ...
