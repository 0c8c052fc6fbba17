"""Messages as JetStream stores, republishes and returns them."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from email.parser import BytesHeaderParser
from typing import Any, NamedTuple, Protocol

from stint.core.codec import to_record
from stint.core.errors import InvalidJobIdError, InvalidTokenError
from stint.core.events import Record
from stint.core.subjects import parse_event_subject
from stint.jetstream.answers import SEQUENCE

SUBJECT = "Nats-Subject"
TIME = "Nats-Time-Stamp"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
"""A publish is refused unless the subject's last message has this sequence."""


def lifetime(seconds: float) -> dict[str, str]:
    """The header of a message that the server removes after this time: whole seconds, at least one."""
    return {"Nats-TTL": f"{max(1, round(seconds))}s"}


class Stored(Protocol):
    """What a direct get and a republished message have in common: body, and headers that say where it stands."""

    @property
    def data(self) -> bytes:
        """The body."""
        ...

    @property
    def headers(self) -> Mapping[str, str] | None:
        """Own headers and those that the server added."""
        ...


class RawMessage(NamedTuple):
    """A message that the leader returned, in the form of a direct get."""

    data: bytes
    headers: Mapping[str, str]


def raw_message(answer: Mapping[str, Any]) -> RawMessage:
    """The `message` of a `STREAM.MSG.GET` answer."""
    raw = base64.b64decode(answer.get("hdrs", ""))
    own = dict(BytesHeaderParser().parsebytes(raw.partition(b"\r\n")[2]).items())
    place = {SUBJECT: answer["subject"], SEQUENCE: str(answer["seq"]), TIME: answer["time"]}
    return RawMessage(base64.b64decode(answer.get("data", "")), own | place)


def sequence_of(message: Stored) -> int:
    """The message's sequence in its stream."""
    return int((message.headers or {})[SEQUENCE])


def subject_of(message: Stored) -> str:
    """The subject that the message was published to."""
    return (message.headers or {}).get(SUBJECT, "")


def records(messages: Iterable[Stored]) -> Iterator[Record]:
    """Messages of EVENTS as records, without those that no stream made or whose subject names no queue or job."""
    for message in messages:
        headers = message.headers or {}
        try:
            address = parse_event_subject(subject_of(message))
        except (InvalidTokenError, InvalidJobIdError):
            continue
        yield to_record(address, message.data, sequence=sequence_of(message), time=headers[TIME])
