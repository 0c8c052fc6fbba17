import pytest

from stint.core.codec import decode_event, to_record
from stint.core.errors import UndecodableError
from stint.core.events import Started
from stint.core.names.subjects import EventAddress


def test_unknown_fields_are_tolerated() -> None:
    body = b'{"type":"started","event_id":"1","at":"","runner":"r","from_the_future":{"a":[1]},"v":7}'
    event = decode_event("started", body)
    assert isinstance(event, Started)
    assert (event.runner, event.v) == ("r", 7)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("started", b""),
        ("started", b"null"),
        ("started", b"[]"),
        ("started", b"\xff\xfe"),
        ("started", b'{"type":"ended","event_id":"1","at":"","status":"success"}'),
        ("started", b'{"type":"started","event_id":"1","at":"","runner":7}'),
        ("started", b'{"type":"started"}'),
        ("future", b'{"type":"future"}'),
        ("submitted", b'{"type":"submitted","unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ],
)
def test_what_is_no_such_event(kind: str, body: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode_event(kind, body)
    assert to_record(EventAddress(kind, "me", "0" * 24), body, sequence=1, time="").event is None
