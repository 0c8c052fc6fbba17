"""What each command appends to a job: the returned events, in this order. Empty if nothing is left to do.

Between two of them others may append theirs, or the second may fail: decide again, for the job as it is then.
"""

from stint.core.errors import IllegalCommandError
from stint.core.events import AnyEvent, Deleted, Ended, KillRequested, Released, Started
from stint.core.job import ACTIVE, Job, State

Events = tuple[AnyEvent, ...]


def claim(job: Job, started: Started) -> Events:
    """Claim a queued job, to run it. Raises IllegalCommandError if it is not queued, or a kill was requested."""
    if job.state is not State.QUEUED or job.kill_requested:
        raise IllegalCommandError("Only a queued job can be claimed.")
    return (started,)


def kill(job: Job, requested: KillRequested, ended: Ended) -> Events:
    """Ask for a job to be stopped. A queued one ends at once, with `ended`."""
    if job.terminal:
        return ()
    wanted = () if job.kill_requested else (requested,)
    # In this order: a runner that comes in between does not start a job that is to be killed, but ends it.
    return (*wanted, ended) if job.state is State.QUEUED else wanted


def release(job: Job, released: Released, ended: Ended) -> Events:
    """Give up the lost runner of a held job: its queue continues. Nothing is left to do if that has been done.

    Raises IllegalCommandError if it is not held, and was not released before.
    """
    begun = Released.kind in job.facts
    if begun and job.terminal:
        return ()
    if not job.held:
        raise IllegalCommandError("Only a job that is held can be released.")
    # In this order: the queue waits until the held job has ended.
    return (ended,) if begun else (released, ended)


def delete(job: Job, deleted: Deleted) -> Events:
    """Delete a job. Raises IllegalCommandError if it is running or stopping."""
    if job.state in ACTIVE:
        raise IllegalCommandError("Cannot delete a running/stopping job")
    return () if job.state is State.DELETED else (deleted,)
