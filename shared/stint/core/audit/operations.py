"""The events of queues and runners: what operators do to them, in the past tense.

They are in the same log as the events of jobs, under an id of their own in the place of a job's, and expire likewise.
Nothing decides by them: the bucket `pauses` says whether a queue is paused, the runner itself whether it drains.
"""

from typing import Annotated, ClassVar, Final, get_args

import msgspec

from stint.core.codec import to_record
from stint.core.events import Event, Record
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

OPERATIONS: Final[dict[str, type[AnyOperation]]] = {cls.kind: cls for cls in get_args(AnyOperation)}


def address_of(event: AnyOperation, token: str, operation_id: str) -> EventAddress:
    """Where an operation on this queue, or on a runner, is stored."""
    return EventAddress(event.kind, FLEET_TOKEN if isinstance(event, DrainRequested) else token, operation_id)


def to_operation(address: EventAddress, data: bytes, *, sequence: int, time: str) -> Record:
    """Decode a stored message of one of these kinds, as `to_record` does those of a job."""
    return to_record(address, data, sequence=sequence, time=time, shapes=OPERATIONS)
