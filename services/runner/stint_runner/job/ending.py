"""The facts that end a job, by how it ended."""

import structlog

from stint.core.errors import EngineError, JobFailedError, VaultError
from stint.core.events import Ended
from stint_runner.job.container import Exited, JobContainer
from stint_runner.job.prepare import TEXT_LENGTH
from stint_runner.parts import Parts

log = structlog.get_logger()


def never_ran(parts: Parts, status: str, reason: str, sentence: str) -> Ended:
    """A job that was never started has all its output."""
    return parts.fact(Ended, status=status, reason=reason, error=sentence, output_complete=True)


def exited(parts: Parts, container: JobContainer, image: str, how: Exited, limit: float) -> Ended:
    """A container that exited; `limit` is its time-out in seconds."""
    reason = how.stopped
    if how.exit.code and not reason:
        reason = "oom" if how.exit.oom_killed else "exit_code"
    error = f"The job ran for longer than its time-out of {limit:.12g} seconds." if how.stopped == "timeout" else ""
    return _ended(parts, container, image, "failed" if reason else "success", reason, error, how.exit.code)


def failed(parts: Parts, container: JobContainer, image: str, error: Exception) -> Ended:
    """A job that could not be run to its container's exit."""
    match error:
        case JobFailedError():
            return _ended(parts, container, image, error.status, error.reason, error.sentence)
        case EngineError() if container.ran:
            sentence = f"How the container ended is not known: {error.sentence}"
            return _ended(parts, container, image, "unknown", "container", sentence)
        case EngineError():
            return _ended(parts, container, image, "failed", "container", f"Run container failed: {error.sentence}")
        case VaultError():
            return _ended(parts, container, image, "failed", "secrets", f"Vault did not answer: {error.sentence}")
    log.error("internal error", exc_info=error)
    return _ended(parts, container, image, "unknown" if container.ran else "failed", "internal", internal(error))


def internal(error: Exception) -> str:
    """A sentence about a fault of this runner's own; its text may hold a secret."""
    return f"Internal error in the runner: {type(error).__name__}."


def _ended(
    parts: Parts, container: JobContainer, image: str, status: str, reason: str, error: str = "", return_code: int = 0
) -> Ended:
    output = container.output
    return parts.fact(
        Ended,
        status=status,
        reason=reason,
        error=error[:TEXT_LENGTH],
        return_code=return_code,
        container_image=image[:TEXT_LENGTH],
        chunks=output.chunks,
        output_bytes=output.size,
        output_digest=output.digest,
        output_complete=output.complete or not container.ran,
        output_truncated=output.truncated,
        output_masked=output.masked,
    )
