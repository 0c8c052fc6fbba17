"""Events and views, which anybody may have published who has a key for NATS: the kind in the first line, then JSON."""

from typing import Any

from stint.core.codec import decode, encode, to_record
from stint.core.errors import UndecodableError
from stint.core.events import EVENT_TYPES, Submitted
from stint.core.job import fold
from stint.core.names.subjects import EventAddress
from stint.core.view import read_view, view
from tests.fuzz.target import Target, refused_well

JOB_ID = "0123456789ab0123456789ab"
TIME = "2026-01-02T03:04:05.678Z"


def check(data: bytes, _servers: Any) -> None:
    """What is decoded can be stored again as it is; what is not is named without its text. No record stops a fold."""
    first, _, body = data.partition(b"\n")
    kind = first.decode("latin-1") if first.decode("latin-1") in EVENT_TYPES else "other"
    with refused_well(UndecodableError):
        shape = EVENT_TYPES.get(kind, Submitted)
        event = decode(body, shape)
        assert decode(encode(event), shape) == event
    with refused_well(UndecodableError):
        read_view(JOB_ID, body)
    records = [
        to_record(EventAddress(name, "me", JOB_ID), body, sequence=number, time=TIME)
        for number, name in enumerate(dict.fromkeys([kind, *EVENT_TYPES]), start=1)
    ]
    if job := fold(records):
        encode(view(job))


TARGET = Target(name="codec", check=check, words=[b'"', b"{}", b"null", b"1e999", b"-1", b'"v":', b"\\ud800", b"\xff"])
