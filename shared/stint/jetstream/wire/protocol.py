"""NATS and JetStream on the wire: error numbers, headers, answers, and messages as streams return them."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

from nats.aio.msg import Msg
from nats.js.api import Header

from stint.core.audit.signature import named_signer
from stint.core.codec import to_record
from stint.core.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    InProgressError,
    InvalidJobIdError,
    InvalidTokenError,
    NoRoomError,
    StreamMissingError,
    TooLargeError,
)
from stint.core.events import Record
from stint.core.names.headers import SEQUENCE, SIGNATURE, SOURCE, SUBJECT, TIME
from stint.core.names.subjects import parse_event_subject
from stint.core.view import parse_time

NANOSECONDS: Final = 10**9  # the unit of JetStream's durations, in a second

EXPECTED_SEQUENCE: Final = Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
"""A publish is refused unless the subject's last message has this sequence."""

_SEQUENCE: Final = re.compile(r"[0-9]{1,19}")
_LATER: Final = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})


class NoAnswerError(BrokerUnavailableError):
    """NATS did not answer, and may have received the request."""


class ErrorCode(IntEnum):
    """JetStream's error numbers that Stint distinguishes. The HTTP-like code beside them is too coarse."""

    ACCOUNT_FULL = 10002  # it has no room on disk or in memory
    CONSUMER_NOT_FOUND = 10014
    SERVER_FULL = 10023
    NO_MESSAGE = 10037
    TOO_LARGE = 10054  # the message is larger than the stream takes
    DELETE_FAILED = 10057  # there is no such message any more
    STREAM_NOT_FOUND = 10059
    WRONG_LAST_SEQUENCE = 10071  # the subject has a message already, if `EXPECTED_SEQUENCE` is 0
    SUBJECT_TAKEN = 10077  # the subject already has its one message; or the stream has all that it may have
    CONSUMER_EXISTS = 10148  # with other settings
    TOO_MANY = 10167  # as many messages wait as the stream keeps in memory; this one was dropped
    IN_PROGRESS = 10164  # a message on this subject is being replicated, and may or may not be stored
    BATCH_INCOMPLETE = 10176  # the leader has changed, or messages were dropped: none of the batch is stored


_FULL: Final = frozenset({ErrorCode.ACCOUNT_FULL, ErrorCode.SERVER_FULL})

NOT_FIRST: Final = frozenset({ErrorCode.WRONG_LAST_SEQUENCE, ErrorCode.SUBJECT_TAKEN})
"""Refusals of a publish because of a message that came first, which may be an earlier attempt."""


def error_code(answer: Mapping[str, Any]) -> int:
    """JetStream's own error number, 0 if the answer is no error."""
    error = answer.get("error")
    return int(error.get("err_code", error.get("code", 0))) if error else 0


def check(answer: dict[str, Any], *expected: ErrorCode) -> dict[str, Any]:
    """Return the answer if it is not an error, or one that is expected.

    Raises:
        BrokerUnavailableError: the server cannot carry out the request now; a `NoRoomError` if it has no room, an
            `InProgressError` if another write comes first.
        StreamMissingError: there is no such stream.
        TooLargeError: the stream takes no message of this size.
        BrokerRefusedError: the server refuses the request.
    """
    error, code = answer.get("error"), error_code(answer)
    if not error or code in expected:
        return answer
    sentence = f"NATS: {error.get('description', 'error')} ({error.get('err_code', 0)})."
    if code in _FULL:
        raise NoRoomError(sentence)
    if code == ErrorCode.TOO_LARGE:
        raise TooLargeError(sentence)
    if code == ErrorCode.IN_PROGRESS:
        raise InProgressError(sentence)
    if error.get("code") in _LATER or code == ErrorCode.BATCH_INCOMPLETE:
        raise BrokerUnavailableError(sentence)
    raise (StreamMissingError if code == ErrorCode.STREAM_NOT_FOUND else BrokerRefusedError)(sentence)


def status_of(message: Msg) -> str:
    """The status of a message that the server itself created, "" for a stored message.

    A publisher can set any header, but neither an ack subject nor a stream's sequence.
    """
    headers = message.headers or {}
    return "" if message.reply or SEQUENCE in headers else headers.get(Header.STATUS, "")


def lifetime(seconds: float) -> dict[str, str]:
    """The header of a message that the server removes after this time: whole seconds, at least one."""
    return {Header.MSG_TTL.value: f"{max(1, round(seconds))}s"}


def batched(headers: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The headers of several messages as those of an atomic batch, which the last one commits."""
    batch = uuid4().hex
    numbered = [
        {**own, Header.BATCH_ID.value: batch, Header.BATCH_SEQUENCE.value: str(number)}
        for number, own in enumerate(headers, start=1)
    ]
    numbered[-1][Header.BATCH_COMMIT.value] = "1"
    return numbered


class Stored(Protocol):
    """What a direct get and a republished message have in common: body, and headers that say where it stands."""

    @property
    def data(self) -> bytes:
        """The body."""

    @property
    def headers(self) -> Mapping[str, str] | None:
        """Own headers and those that the server added."""


class RawMessage(NamedTuple):
    """A message that the leader returned, in the form of a direct get."""

    data: bytes
    headers: Mapping[str, str]


def headers_in(lines: bytes) -> dict[str, str]:
    """The headers in lines of `Name: value`. Those whose name is no word in ASCII are left out."""
    found = {}
    for line in lines.split(b"\r\n"):
        before, colon, value = line.partition(b":")
        name = before.strip().decode("ascii", "replace")
        if colon and name.isascii() and name.split() == [name]:
            found[name] = value.strip().decode(errors="replace")
    return found


def raw_message(answer: Mapping[str, Any]) -> RawMessage:
    """The `message` of a `STREAM.MSG.GET` answer."""
    raw = base64.b64decode(answer.get("hdrs", ""))
    own = headers_in(raw.partition(b"\r\n")[2])
    place = {SUBJECT: answer["subject"], SEQUENCE: str(answer["seq"]), TIME: answer["time"]}
    return RawMessage(base64.b64decode(answer.get("data", "")), own | place)


class Origin(NamedTuple):
    """The message of another stream that one was copied from: its sequence and subject. 0 and "" if from none."""

    sequence: int
    subject: str


def origin_of(message: Stored) -> Origin:
    """Where the stream copied the message from. The server refuses a message that has the header already."""
    parts = (message.headers or {}).get(SOURCE, "").split(" ")
    return Origin(int(parts[1]), parts[4]) if len(parts) > 4 else Origin(0, "")  # noqa: PLR2004 - stream, sequence, filter, transform, subject


def sequence_of(message: Stored) -> int:
    """The message's sequence in its stream."""
    return int((message.headers or {})[SEQUENCE])


def announced_sequence(message: Stored) -> int:
    """The sequence that a live message names. 0 if it names none, because anybody may have published it."""
    named = (message.headers or {}).get(SEQUENCE, "")
    return int(named) if _SEQUENCE.fullmatch(named) else 0


def subject_of(message: Stored) -> str:
    """The subject that the message was published to."""
    return (message.headers or {}).get(SUBJECT, "")


def time_of(message: Stored) -> datetime:
    """When the stream stored the message."""
    return parse_time((message.headers or {})[TIME])


class Position(NamedTuple):
    """Where a message stands that a consumer delivered."""

    deliveries: int  # how often the consumer has delivered it
    sequence: int  # in the stream
    number: int  # of this delivery, counted by the consumer
    stored: int  # when the stream stored it, in nanoseconds since 1970
    pending: int  # how many messages follow


def position_of(message: Msg) -> Position:
    """What the message's reply subject says. nats-py's `Msg.metadata` would take three times as long.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>.<pending>`; with JetStream domains there are
    two more tokens in front of the stream, and one at the end. Raises ValueError if it says nothing of the kind.
    """
    tokens = message.reply.split(".")
    begin = 4 if len(tokens) == 9 else 6  # noqa: PLR2004 - see above
    deliveries, sequence, number, stored, pending = map(int, tokens[begin : begin + 5])
    return Position(deliveries, sequence, number, stored, pending)


def records(messages: Iterable[Stored]) -> Iterator[Record]:
    """Messages of EVENTS as records, without those that no stream made or whose subject names no queue or job."""
    for message in messages:
        headers = message.headers or {}
        try:
            address = parse_event_subject(subject_of(message))
        except (InvalidTokenError, InvalidJobIdError):
            continue
        signer = named_signer(headers.get(SIGNATURE, ""), message.data)
        yield to_record(address, message.data, sequence=sequence_of(message), time=headers[TIME], signer=signer)
