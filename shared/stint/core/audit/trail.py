"""What somebody did, and what came of it; and which secrets a job got. The log says both."""

from typing import Final, NamedTuple

from stint.core.audit.operations import OPERATIONS, DrainRequested, Paused
from stint.core.events import ACTIONS, PUBLISHED, Event, Rejected, Submitted
from stint.core.job import Job
from stint.core.names.ids import FLEET_TOKEN, queue_name

DONE: Final = ACTIONS | OPERATIONS.keys()
"""The kinds of events that somebody causes."""
OURS: Final = DONE - {shape.kind for shape in PUBLISHED}
"""Those that only the API writes. It writes there what Vault said of the caller."""


class Action(NamedTuple):
    """What was done to whom, and what came of it.

    Attributes:
        qname: the queue's name, "" for a runner.
        answer: `accepted`, `ignored` if the job's state did not allow it, or `rejected` for a malformed submission.
        status: the job's status now, "" if it is not a job of this queue.
        runner: the runner to which it was done, "" for a queue or a job.
        reason: why, in the caller's own words.
    """

    qname: str
    answer: str
    status: str = ""
    runner: str = ""
    reason: str = ""


def operated(token: str, event: Event) -> Action:
    """An operation on the queue of this token, or on a runner."""
    return Action(
        qname="" if token == FLEET_TOKEN else queue_name(token),
        answer="accepted",
        runner=event.runner if isinstance(event, DrainRequested) else "",
        reason=event.reason if isinstance(event, Paused) else "",
    )


def asked(token: str, kind: str, sequence: int, job: Job) -> Action:
    """An event of a job, by the job as it is now."""
    counted = job.facts.get(kind)
    answer = "accepted" if counted and counted.sequence == sequence else "ignored"
    if answer == "accepted" and kind == Submitted.kind and Rejected.kind in job.facts:
        answer = "rejected"
    # A stranger may have named the job of another queue, which is none of this queue's readers' business.
    return Action(queue_name(token), answer, job.state if job.token == token else "")


def path_of(secret: str) -> str:
    """The path of a secret, all of whose keys have one version together."""
    return secret.partition(".")[0]


def is_older(version: int | None, newest: int | None) -> bool:
    """Whether a job has got a newer version than this one."""
    return version is not None and newest is not None and version < newest
