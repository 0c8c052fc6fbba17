"""What the log says about a job, and what follows for its delivery."""

import asyncio
from enum import Enum, auto

from stint.core.events import Ended, Started
from stint.core.job import Job, State


class Verdict(Enum):
    """What is to become of a delivery."""

    ACK = auto()
    """The job is over: let its queue go on."""
    WAIT_AND_ACK = auto()
    """It was ended by another than its starter, who may not know yet: let the queue go on T later."""
    DROP = auto()
    """It is somebody else's by now: touch it no more."""
    LOOK_AGAIN = auto()
    """Somebody else's fact came first."""
    WAIT = auto()
    """Another runner has it, or its queue waits for one that was lost: look again a lease later."""
    GIVE_BACK = auto()
    """Not run here after all: let another runner have it."""


class Watch:
    """What the log says about a job while this runner has it.

    Attributes:
        killed: somebody asked for its end.
        over: somebody else has ended it.
        leave: whoever has not claimed it yet should not any more.
    """

    def __init__(self) -> None:
        self.killed = asyncio.Event()
        self.over = asyncio.Event()
        self.leave = asyncio.Event()
        self.ending = False

    def see(self, job: Job | None) -> None:
        """Take note of the job's newest facts."""
        if job is None or (job.terminal and not self.ending):
            self.over.set()
            self.leave.set()
        elif job.kill_requested:
            self.killed.set()


def verdict_on_ended(job: Job) -> Verdict:
    """Whoever did not start a job but ended it may have been wrong about its runner: that one gets time to notice."""
    ended = job.fact(Ended)
    if job.state is State.DELETED or Started.kind not in job.facts or (ended and ended.by == job.runner):
        return Verdict.ACK
    return Verdict.WAIT_AND_ACK
