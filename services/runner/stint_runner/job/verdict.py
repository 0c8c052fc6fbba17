"""How a job ended, and what becomes of its delivery then."""

import asyncio
from enum import Enum, auto
from functools import partial

import structlog

from stint.core.errors import EngineError, JobFailedError, StintError, VaultError
from stint.core.events import TEXT_LENGTH, AnyEvent, Ended, Launched, Started
from stint.core.job import Job, State
from stint_runner.job.container import Exited, JobContainer
from stint_runner.lease.lease import Lease
from stint_runner.retry import retry
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import StateError

log = structlog.get_logger()


class Verdict(Enum):
    """What becomes of a delivery once it has been processed."""

    ACK = auto()  # the job is over: its queue continues
    WAIT_AND_ACK = auto()  # another process ended it, and its runner may not know yet: its queue continues T later
    LEAVE = auto()  # it belongs to another runner by now: it is left alone
    RETURN = auto()  # it is not run here: another runner may have it at once
    PAUSED = auto()  # its queue is paused: the queue's next job is wanted when the pause ends, and by nobody before
    RETURN_LATER = auto()  # another runner has it, or its queue waits for one that was lost: delivered a lease later


class UnstartedError(StintError):
    """The job ends without having been started: `event` says so."""

    def __init__(self, event: AnyEvent) -> None:
        super().__init__()
        self.event = event


async def settle(verdict: Verdict, lease: Lease) -> None:
    """Acknowledge, give back or leave a delivery, as the verdict says. Raises LeaseLostError if it is not ours."""
    match verdict:
        case Verdict.WAIT_AND_ACK:
            await asyncio.sleep(lease.times.takeover)
            await retry(lease.ack)
        case Verdict.ACK:
            await retry(lease.ack)
        case Verdict.RETURN:
            await lease.give_back()
        case Verdict.PAUSED:
            await lease.give_back(hint=False)
        case Verdict.RETURN_LATER:
            await lease.give_back(lease.delivery.lease)


def on_ended(job: Job) -> Verdict:
    """If another process than its runner ended the job, that runner gets time to notice."""
    ended = job.fact(Ended)
    if job.state is State.DELETED or Started.kind not in job.facts or (ended and ended.by == job.runner):
        return Verdict.ACK
    return Verdict.WAIT_AND_ACK


# --- the events that end a job, by how it ended -------------------------------------------------------------------


def never_ran(runner: Runner, status: str, reason: str, sentence: str) -> Ended:
    """A job that was never started has all its output."""
    return runner.fact(Ended, status=status, reason=reason, error=sentence[:TEXT_LENGTH], output_complete=True)


def exited(runner: Runner, container: JobContainer, image: str, how: Exited) -> Ended:
    """A container that exited."""
    reason = how.stopped
    if how.exit.code and not reason:
        reason = "oom" if how.exit.oom_killed else "exit_code"
    error = ""
    if how.stopped == "timeout":
        error = f"The job ran for longer than its time-out of {container.timeout:.12g} seconds."
    return _ended(runner, container, image, "failed" if reason else "success", reason, error, how.exit.code)


def failed(runner: Runner, container: JobContainer, image: str, error: Exception) -> Ended:
    """A job that could not be run to its container's exit."""
    ended = partial(_ended, runner, container, image)
    match error:
        case JobFailedError():
            return ended(error.status, error.reason, error.sentence)
        case EngineError() if container.ran:
            return ended("unknown", "container", f"How the container ended is not known: {error.sentence}")
        case EngineError() | StateError():
            return ended("failed", "container", f"Run container failed: {error.sentence}")
        case VaultError():
            return ended("failed", "secrets", f"Vault did not answer: {error.sentence}")
    log.error("internal error", exc_info=error)
    return ended("unknown" if container.ran else "failed", "internal", _internal(error))


def gave_up(runner: Runner, job: Job, error: Exception) -> Ended:
    """A job in whose processing this runner itself failed."""
    launched = Launched.kind in job.facts
    status = "unknown" if launched else "failed"
    return runner.fact(Ended, status=status, reason="internal", error=_internal(error), output_complete=not launched)


def _internal(error: Exception) -> str:
    """A sentence about a fault of this runner's own; its text may hold a secret."""
    return f"Internal error in the runner: {type(error).__name__}."


def _ended(
    runner: Runner, container: JobContainer, image: str, status: str, reason: str, error: str = "", return_code: int = 0
) -> Ended:
    output = container.output
    return runner.fact(
        Ended,
        status=status,
        reason=reason,
        error=error[:TEXT_LENGTH],
        return_code=return_code,
        container_image=image[:TEXT_LENGTH],
        chunks=output.chain.chunks,
        output_bytes=output.chain.size,
        output_digest=output.chain.digest,
        output_complete=output.complete or not container.ran,
        output_truncated=output.truncated,
        output_masked=output.masked,
    )
