"""Encodes events and views, and decodes them; and events as CloudEvents."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from stint.core.errors import UndecodableError
from stint.core.events import EVENT_TYPES, Event, Record
from stint.core.names.headers import CE_DATACONTENTTYPE, CE_ID, CE_SOURCE, CE_SPECVERSION, CE_SUBJECT, CE_TIME, CE_TYPE
from stint.core.names.subjects import EventAddress

_encoder = msgspec.json.Encoder()

T = TypeVar("T")

_QUOTED: Final = re.compile("value '.*'", re.DOTALL)
"""The wrong value, which msgspec quotes for enums and tags."""


def encode(value: msgspec.Struct) -> bytes:
    """JSON of a struct."""
    return _encoder.encode(value)


def decode(data: bytes, shape: type[T]) -> T:
    """Decode a value of this type. Raises UndecodableError, which names the field, never the value."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:  # the last one also in fields that are skipped
        raise UndecodableError(f"Not a {shape.__name__}: {_QUOTED.sub('value', str(error))}.") from None


def cloudevents(address: EventAddress, event: Event) -> Mapping[str, str]:
    """The headers of an event that is stored at this address, as a CloudEvent 1.0; its body stays as it is.

    This is the binary mode of their NATS binding. All characters in the headers are printable ASCII.
    """
    return {
        CE_SPECVERSION: "1.0",
        CE_ID: event.event_id,
        CE_SOURCE: f"/stint/queues/{address.token}",
        CE_TYPE: address.kind,
        CE_TIME: event.at,
        CE_SUBJECT: address.job_id,
        CE_DATACONTENTTYPE: "application/json",
    }


def to_record(
    address: EventAddress,
    data: bytes,
    *,
    sequence: int,
    time: str,
    signer: str = "",
    shapes: Mapping[str, type[Event]] = EVENT_TYPES,
) -> Record:
    """Decode a stored message. It raises nothing: a record that cannot be decoded has no event."""
    shape = shapes.get(address.kind)
    try:
        event = decode(data, shape) if shape else None
    except UndecodableError:
        event = None
    return Record(
        sequence=sequence,
        time=time,
        kind=address.kind,
        token=address.token,
        job_id=address.job_id,
        event=event,
        signer=signer,
    )
