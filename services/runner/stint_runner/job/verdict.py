"""What is to become of a delivery once its job has been processed."""

import asyncio
from enum import Enum, auto

from stint.core.events import Ended, Started
from stint.core.job import Job, State
from stint_runner.lease.lease import Lease
from stint_runner.waiting import patiently


class Verdict(Enum):
    """What is to become of a delivery."""

    ACK = auto()
    """The job is over: its queue continues."""
    WAIT_AND_ACK = auto()
    """It was ended by another than its starter, who may not know yet: its queue continues T later."""
    LEAVE = auto()
    """It belongs to somebody else by now: it is not touched any more."""
    RETURN = auto()
    """It is not run here after all: another runner may have it at once."""
    RETURN_LATER = auto()
    """Another runner has it, or its queue waits for a runner that was lost: it is delivered again a lease later."""


async def carry_out(verdict: Verdict, lease: Lease, takeover: float) -> None:
    """Do with a delivery what the verdict says; `takeover` is T, in seconds.

    Raises:
        LeaseLostError: the delivery is not ours any more.
    """
    match verdict:
        case Verdict.WAIT_AND_ACK:
            await asyncio.sleep(takeover)
            await patiently(lease.ack)
        case Verdict.ACK:
            await patiently(lease.ack)
        case Verdict.RETURN:
            await lease.give_back()
        case Verdict.RETURN_LATER:
            await lease.give_back(lease.times.lease)


def verdict_on_ended(job: Job) -> Verdict:
    """Whoever did not start a job but ended it may have been wrong about its runner: that one gets time to notice."""
    ended = job.fact(Ended)
    if job.state is State.DELETED or Started.kind not in job.facts or (ended and ended.by == job.runner):
        return Verdict.ACK
    return Verdict.WAIT_AND_ACK
