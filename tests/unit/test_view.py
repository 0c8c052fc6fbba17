from datetime import timedelta

import msgspec
import pytest

from stint.core.codec import decode_event, to_record
from stint.core.errors import UndecodableError
from stint.core.events import Started
from stint.core.job import fold
from stint.core.names.subjects import EventAddress
from stint.core.view import expiry, parse_time, view
from tests.support.events import ended, job_of, kill_requested, launched, records, started, submitted


def test_bytes_that_cannot_be_read_still_give_a_view() -> None:
    whole = records(submitted(), started(), launched(), ended())
    job = fold([msgspec.structs.replace(stored, event=None) for stored in whole])
    assert job is not None
    assert (view(job).status, view(job).reason, view(job).qname) == ("unknown", "internal", "deploys")


def test_a_page_can_tell_when_a_job_will_be_killed() -> None:
    job = job_of(submitted(), msgspec.structs.replace(started(), kill_grace=7.5), launched(), kill_requested())
    assert (view(job).kill_grace, view(job).kill_requested_at) == (7.5, "2026-01-02T03:04:04.123Z")


def test_a_job_expires_after_its_end() -> None:
    assert expiry(job_of(submitted()), timedelta(hours=6)) is None
    assert expiry(job_of(submitted(), ended("failed")), timedelta(hours=6)) == parse_time("2026-01-02T09:04:02.123456Z")


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-01-02T03:04:05Z", 0), ("2026-01-02T03:04:05.1Z", 100_000), ("2026-01-02T03:04:05.123456789Z", 123_456)],
)
def test_stream_times(text: str, microsecond: int) -> None:
    assert parse_time(text).microsecond == microsecond
    assert parse_time(text).utcoffset() == timedelta(0)


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
