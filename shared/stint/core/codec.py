"""Encodes events and views, and decodes them."""

import re
from typing import Final, TypeVar

import msgspec

from stint.core.errors import UndecodableError
from stint.core.events import EVENT_TYPES, AnyEvent, Record
from stint.core.names.subjects import EventAddress

_encoder = msgspec.json.Encoder()
_decoders = {kind: msgspec.json.Decoder(cls) for kind, cls in EVENT_TYPES.items()}

T = TypeVar("T")

_QUOTED: Final = re.compile("value '.*'", re.DOTALL)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises on bytes of others; the last one on too many levels, also in fields that are skipped."""


def encode(value: msgspec.Struct) -> bytes:
    """JSON of a struct."""
    return _encoder.encode(value)


def decode(data: bytes, shape: type[T]) -> T:
    """Decode a struct of the given type.

    Raises:
        UndecodableError: not JSON, or not of that type. The message names the field, never the value.
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except _UNREADABLE as error:
        raise UndecodableError(f"Not a {shape.__name__}: {_without_value(error)}.") from None


def decode_event(kind: str, data: bytes) -> AnyEvent:
    """Decode an event of the given kind.

    Raises:
        UndecodableError: an unknown kind, not JSON, another kind's type, or a missing or wrong field.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        raise UndecodableError(f"Unknown kind of event: {kind}.")
    try:
        return decoder.decode(data)
    except _UNREADABLE as error:
        raise UndecodableError(f"Not a {kind} event: {_without_value(error)}.") from None


def _without_value(error: Exception) -> str:
    """What msgspec says, without the wrong value that it quotes for enums and tags."""
    return _QUOTED.sub("value", str(error))


def to_record(address: EventAddress, data: bytes, *, sequence: int, time: str, signer: str = "") -> Record:
    """Decode a stored message. It raises nothing: a record that cannot be decoded has no event."""
    try:
        event = decode_event(address.kind, data)
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
