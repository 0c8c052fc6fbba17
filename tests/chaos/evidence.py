"""What a run leaves behind for the checker: what was asked for, what the jobs themselves saw, what the stream holds."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from stint.core.events import Record
from stint.core.names.ids import queue_token
from stint.core.output.chain import Chunk


class Answer(StrEnum):
    """What the submitter was told."""

    TAKEN = "taken"
    """A 200, or the stream's acknowledgement."""
    REFUSED = "refused"
    """An answer that says no: the job must not turn up."""
    UNKNOWN = "unknown"
    """No answer, or one that says that nobody knows: the job may be there or not."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One job as the load sent it. `job_id` is "" where no answer told it.

    Its key stands in its command, so that what runs can be told apart whatever its id. It writes so many lines, each
    `key number`, every fifth on standard error.
    """

    key: str
    queue: str
    job_id: str
    answer: Answer
    lines: int = 0
    hold: bool = False

    @property
    def token(self) -> str:
        return queue_token(self.queue)

    def output(self, stream: str) -> bytes:
        """What the command writes if nothing stops it."""
        chosen = (number for number in range(1, self.lines + 1) if (number % 5 == 0) == (stream == "stderr"))
        return b"".join(b"%s %d\n" % (self.key.encode(), number) for number in chosen)


class Sight(msgspec.Struct, frozen=True):
    """What a job's process appended to its queue's file: `begin`, `tick`, `end`, or `overlap` with another process."""

    key: str
    what: str
    process: str


class Pause(msgspec.Struct, frozen=True):
    """One fault as it was injected, by the wall clock."""

    kind: str
    target: str
    begin: datetime
    end: datetime


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the checker looks at, in the order in which it happened.

    Attributes:
        truth: what the jobs of a queue saw, by the queue's name.
        views: by job id, once everything had settled; `rebuilt` after they were made again.
        left: what should be gone: a kind (`container`, `payload`, `work`, `consumer`, `token`) and its name.
        patience: seconds that a queue with work may pass without a job's end when no fault is about.
        servers: of NATS. Of several the leader does not count an event that it is just storing.
    """

    submissions: Sequence[Submission]
    truth: Mapping[str, Sequence[Sight]]
    records: Sequence[Record]
    views: Mapping[str, bytes]
    rebuilt: Mapping[str, bytes]
    output: Mapping[str, Sequence[Chunk]]
    left: Sequence[tuple[str, str]] = ()
    faults: Sequence[Pause] = ()
    patience: float = 60.0
    servers: int = 1


class Violation(msgspec.Struct, frozen=True, order=True):
    """An invariant (`I1` to `I9`) that does not hold of a subject: a job's id or key, or a queue."""

    invariant: str
    subject: str
    sentence: str
