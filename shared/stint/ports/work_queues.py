"""The queues of jobs that wait, their deliveries, and their pauses."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import NamedTuple, Protocol

from stint.core.pause import Pause


class Turn(Enum):
    """What a queue can deliver."""

    FREE = "free"
    """It has a job that nobody holds, or whose holder's lease may be over. Or it was never pulled."""
    HELD = "held"
    """Its next job was delivered. Also if that was given back without a delay, until the lease would have been over."""
    EMPTY = "empty"
    """It has no job, as far as the broker knows: a job that was submitted a moment ago may not count yet."""
    DENIED = "denied"
    """The broker does not permit this runner the queue, or not yet: then a hint tells when it does."""


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
        lease: in seconds, as the consumer has it, which may differ from this runner's own setting.
        after_expiry: whether a lease of the job may have expired before: the consumer has delivered it already, and has
            existed for longer than a lease. If not, the consumer was created anew, and a started job's runner need not
            be lost.
        left: the queue as `ack` left it, if it has more jobs.
    """

    subject: str
    sequence: int
    ack_subject: str
    origin: str
    lease: float
    after_expiry: bool
    left: Look | None

    async def renew(self) -> None:
        """Request another full lease; returns once the broker has answered.

        Raises ConsumerGoneError if the queue no longer has a consumer. The job is still its first one.
        """

    async def ack(self) -> None:
        """Let the queue continue behind the job, which has ended. Returns once the broker has confirmed that.

        The job is removed from the queue a moment later. Another runner may have received it meanwhile. Raises
        LeaseLostError, and sends nothing, if the queue's last delivery is of another job, or it has no consumer.
        """

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        """Nak: deliver the job to the next runner that asks, but not within `delay` seconds.

        Without a delay, one of the runners gets a hint of it, unless `hint` is False. Raises LeaseLostError, and sends
        nothing, if the queue's last delivery is another one.
        """


class WorkQueues(Protocol):
    """Pending jobs by queue. Each queue delivers one at a time.

    Whoever serves some queues only is shown no others: neither as `pending` nor by a hint.
    """

    async def look(self, token: str) -> Look:
        """What the queue can deliver. Costs less than a pull, and takes no time if there is nothing."""

    async def pull(self, token: str, wait: float, look: Look | None = None) -> Delivery | None:
        """The queue's next job, None if it has none or another job has its turn. Waits about `wait` seconds at most.

        Creates the queue's consumer if there is none. If the broker fails during the pull, a delivery that cannot be
        returned is given back. `look` must be of a moment ago.
        """

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> Delivery | None:
        """Renew a delivery of an earlier process of this runner for a full lease, or receive its job anew.

        None if the job may be another runner's. To be called while the earlier process's lease is not over. Raises
        BrokerUnavailableError, too, if the broker does not permit this runner the queue, or not yet.
        """

    async def pending(self) -> Mapping[str, int]:
        """Tokens of the queues that have jobs, and how many, including those that are held."""

    def hints(self) -> AbstractAsyncContextManager[AsyncIterator[Hint]]:
        """Hints of jobs as they are submitted or given back, each to one of those who listen and serve the same queues.

        Some may be missed; `pending` misses nothing.
        """

    async def hint(self, token: str, *, passed: int = 0, returned: bool = False) -> None:
        """Tell one of the runners that this queue has work; see `Hint`."""


class Pauses(Protocol):
    """Which queues are paused.

    A stored pause alone does not keep a runner from starting a job: the runner may have looked before, and be slow. So
    whoever pauses a queue then bars its next job (`EventLog.bar`). A runner loads a job, looks for a pause, and claims
    the job as it was loaded: either it has seen the pause, or its claim is refused.
    """

    async def find(self, token: str) -> Pause | None:
        """The queue's pause, None if it has none. Never answered from a lagging replica."""

    async def all(self) -> Mapping[str, Pause]:
        """All pauses, by the queues' tokens. May lag a moment."""

    async def put(self, token: str, pause: Pause) -> None:
        """Pause a queue; another pause of it is replaced. Safe to repeat."""

    async def remove(self, token: str) -> None:
        """End a queue's pause, if it has one, and let one of the runners know that it has work. Safe to repeat."""

    def waiting(self, token: str) -> AsyncIterator[str]:
        """The ids of the jobs in a work queue, first the one that is next or with a runner.

        Never answered from a lagging replica. A job that is over may still be there for a moment.
        """
