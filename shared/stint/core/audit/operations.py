"""The events of queues and runners: what operators do to them, in the past tense.

They are in the same log as the events of jobs, under an id of their own in the place of a job's, and expire likewise.
Nothing decides by them: the bucket `pauses` says whether a queue is paused, the runner itself whether it drains.
"""

from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec

from stint.core.codec import decode
from stint.core.errors import UndecodableError
from stint.core.events import Event
from stint.core.names.ids import FLEET_TOKEN
from stint.core.names.subjects import EventAddress


class Paused(Event, frozen=True, kw_only=True, tag="paused"):
    """A queue was to be paused.

    Attributes:
        reason: the operator's own words.
    """

    kind: ClassVar[str] = "paused"

    reason: str = ""


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """A queue was to be resumed."""

    kind: ClassVar[str] = "resumed"


class DrainRequested(Event, frozen=True, kw_only=True, tag="drain_requested"):
    """A runner was to be asked to take no more jobs.

    Attributes:
        runner: the runner's name. Vault is asked about it: a name with a line's end made each audit an error.
    """

    kind: ClassVar[str] = "drain_requested"

    runner: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,128}$(?!\n)")]


AnyOperation = Paused | Resumed | DrainRequested

OPERATIONS: Final[dict[str, type[AnyOperation]]] = {cls.kind: cls for cls in (Paused, Resumed, DrainRequested)}


class OperationRecord(NamedTuple):
    """A message of EVENTS that is an operation, as the stream stores it. The names are those of a job's `Record`.

    Attributes:
        sequence: the stream's sequence.
        time: the stream's time, RFC 3339 in UTC.
        kind: from the subject.
        token: the queue's token, from the subject; `FLEET_TOKEN` for a runner.
        job_id: the operation's id, from the subject, where a job's events have the job's.
        event: the event, None if the bytes are not an event of this kind.
    """

    sequence: int
    time: str
    kind: str
    token: str
    job_id: str
    event: AnyOperation | None


def address_of(event: AnyOperation, token: str, operation_id: str) -> EventAddress:
    """Where an operation on this queue, or on a runner, is stored."""
    return EventAddress(event.kind, FLEET_TOKEN if isinstance(event, DrainRequested) else token, operation_id)


def to_operation(address: EventAddress, data: bytes, *, sequence: int, time: str) -> OperationRecord:
    """Decode a stored message of one of these kinds. It raises nothing."""
    event: AnyOperation | None
    try:
        event = decode(data, OPERATIONS[address.kind])
    except UndecodableError:
        event = None
    return OperationRecord(sequence, time, address.kind, address.token, address.job_id, event)
