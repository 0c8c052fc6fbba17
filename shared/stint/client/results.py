"""What the API's answers are read into. Fields of a newer API are left out; those of an older one have a default."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self, TypeVar

import msgspec

from stint.client.errors import UnexpectedAnswerError
from stint.core.errors import StintError
from stint.core.view import NEVER

T = TypeVar("T")

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that says its zone, as all of Stint's do: one without cannot be compared with them."""

LAST_LINES: Final = 20
"""Lines of output that a result can show."""


class JobInfo(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"id": "_id", "queue": "qname", "image": "container_image", "runner": "node_uuid"},
):
    """A job, as the API shows it. Times that have not come are None.

    Attributes:
        id: 24 hex digits.
        status: `queued`, `running`, `stopping`, `success`, `failed`, `notauthorised` or `unknown`; at the
            end of a stream also `deleted`.
        queue: its queue, lower-cased.
        image: the image as requested, "" for a sealed job that has not been opened yet.
        runner: the runner that claimed it, "" if none has.
        container_id: the engine's id of its container, "" until it has one.
        submitted: when it was accepted.
        started: when a runner claimed it.
        ended: when it ended.
        return_code: the command's exit code; 0 if none ran.
        tty: whether it has a terminal.
        kill_requested: whether a kill was requested.
        kill_requested_at: when.
        kill_grace: seconds from SIGTERM to SIGKILL after a kill; 0 if it is not known.
        held: whether its runner was lost, and its queue waits for that runner or for a release.
        held_since: when that was noticed.
        back_since: the first sign since then that the runner is back; None if there is none, and in lists.
        position: its place in its queue, 1 for the next; 0 if it does not wait, or in a list.
        waits_for: `turn`, `held`, `paused`, `unserved` or `capacity`; "" likewise.
        phase: what its runner does for it: `opening`, `pulling`, `creating` or `running`; "" if nobody says.
        progress: how much of its image is pulled, from 0 to 1, if that is known.
        reason: why it did not succeed, in one word; the API's reference lists them.
        error: the reason in words; "" if the command ran, unless it timed out or its end is not known.
        submitted_by: Vault's display name of the token that submitted it.
        rerun_of: the id of the job that it runs again, "" if none.
        output_bytes: size of its output so far, as it was stored.
        output_complete: whether the output is known to be complete, up to the limit.
        output_truncated: whether output beyond the limit was dropped.
        output_masked: how many times a secret's value was replaced in its output.
    """

    id: str
    status: str
    queue: str = ""
    image: str = ""
    runner: str = ""
    container_id: str = ""
    submitted: Time | None = None
    started: Time | None = None
    ended: Time | None = None
    return_code: int = 0
    tty: bool = False
    kill_requested: bool = False
    kill_requested_at: Time | None = None
    kill_grace: float = 0
    held: bool = False
    held_since: Time | None = None
    back_since: Time | None = None
    position: int = 0
    waits_for: str = ""
    phase: str = ""
    progress: float | None = None
    reason: str = ""
    error: str = ""
    submitted_by: str = ""
    rerun_of: str = ""
    output_bytes: int = 0
    output_complete: bool = False
    output_truncated: bool = False
    output_masked: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with the exit code 0, and neither Stint nor a person stopped it."""
        return self.status == "success"

    @property
    def deleted(self) -> bool:
        """Whether it was deleted while it was followed, before it ran: it has no output, and `ended` is None."""
        return self.status == "deleted"

    @property
    def exit_code(self) -> int:
        """The command's exit code, but never 0 for a job that did not succeed."""
        return self.return_code if self.return_code or self.succeeded else 1


class JobResult(JobInfo, frozen=True, kw_only=True):
    """A job that has ended. `tail` are the last bytes of its output, a few kilobytes at most."""

    tail: bytes = b""

    @property
    def info(self) -> JobInfo:
        """The job without its output, as `JobHandle.info` gives it."""
        return JobInfo(**{name: getattr(self, name) for name in JobInfo.__struct_fields__})

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines of its output, at most 20. What is not UTF-8 is replaced."""
        return tuple(self.tail.decode(errors="replace").splitlines()[-LAST_LINES:])

    def check(self) -> Self:
        """The result itself, if the job succeeded. Raises JobFailedError if it did not."""
        if not self.succeeded:
            raise JobFailedError(self)
        return self


class JobFailedError(StintError):
    """The job did not succeed.

    Attributes:
        result: the job.
        reason: why, in one word.
        code: its exit code, never 0.
        last_lines: of its output, which may contain what the job wrote there, secrets too. They are not in the message.
    """

    def __init__(self, result: JobResult) -> None:
        reason = f" ({result.reason})" if result.reason else ""
        words = f": {result.error}" if result.error else ""
        super().__init__(f"Job {result.id} ended as {result.status} with {result.exit_code}{reason}{words}")
        self.result = result
        self.reason = result.reason
        self.code = result.exit_code
        self.last_lines = result.last_lines


class Fact(msgspec.Struct, frozen=True, kw_only=True, rename={"image": "container_image"}):
    """Something that happened to a job, as its log says.

    Attributes:
        kind: `submitted`, `started`, `launched`, `kill_requested`, `held`, `released`, `ended`, `rejected`, `deleted`.
        at: when it was stored.
        status: the job's status since then.
        by: who wrote it: a runner, or the display name of a Vault token.
        sequence: its place in the log.
        runner: of `started`.
        container_id: of `launched`.
        image: of `launched`.
        reason: of `ended`, and so are the others.
        output_digest: of the chain of all output, None if this API does not tell it.
    """

    kind: str
    at: Time
    status: str = ""
    by: str = ""
    sequence: int = 0
    runner: str = ""
    container_id: str = ""
    image: str = ""
    reason: str = ""
    error: str = ""
    return_code: int = 0
    output_chunks: int = 0
    output_bytes: int = 0
    output_digest: str | None = None


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner does for a job now. It is told while that is so, and not kept.

    Attributes:
        phase: `opening`, `pulling`, `creating` or `running`.
        progress: how much of the image is pulled, from 0 to 1, if that is known.
    """

    phase: str
    progress: float | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a job's output.

    Attributes:
        data: the bytes that it wrote.
        stream: `stdout`, `stderr` or `tty`.
        number: of this piece, from 1.
        offset: bytes of output before it.
        at: when it was stored.
        line: number of the first line that begins in it, counted over the whole output from 1; 0 if none does.
    """

    data: bytes
    stream: str = "stdout"
    number: int = 0
    offset: int = 0
    at: Time | None = None
    line: int = 0


JobEvent = Fact | Phase | Output | JobResult
"""What a job's stream consists of: the last one is its result."""


def read(fields: Any, shape: type[T]) -> T:
    """An answer's fields, or one of them, as this type. Raises UnexpectedAnswerError if it is another."""
    try:
        return msgspec.convert(_come(fields, levels=2), shape, str_keys=True)
    except msgspec.ValidationError as error:
        raise UnexpectedAnswerError(f"Stint's answer is not a {shape.__name__}: {error}.") from None


def _come(value: Any, levels: int) -> Any:
    """Without the times that have not come, which a queue's pause can have, too."""
    if not (levels and isinstance(value, Mapping)):
        return value
    return {name: _come(part, levels - 1) for name, part in value.items() if part != NEVER}


def rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a list, or of a page of it. Raises UnexpectedAnswerError if it has none, not even an empty one."""
    return read(page.get("data"), list[dict[str, Any]])
