"""Encodes events and views, and decodes them."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from stint.core.errors import UndecodableError
from stint.core.events import EVENT_TYPES, Event, Record
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
