"""The contract of the bus: what it says is what is written, and what was ever written can be read and viewed."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from typer.testing import CliRunner

from stint.cli.app import app
from stint.core.audit.operations import OPERATIONS, to_operation
from stint.core.codec import decode, encode, to_record
from stint.core.events import EVENT_TYPES
from stint.core.job import fold
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress, parse_event_subject
from stint.core.schema import asyncapi, examples
from stint.core.view import expiry, parse_time, view
from tests.support.events import deleted, ended, job_of, kill_requested, launched, records, started, submitted

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
DONE = GOLDEN.parent / "operations"
CONTRACT = asyncapi("0")


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_is_valid_by_its_schema_and_a_wrong_one_is_not(kind: str) -> None:
    name = EVENT_TYPES[kind].__name__
    schema = {"$ref": f"#/components/schemas/{name}", "components": CONTRACT["components"]}
    validator = jsonschema_rs.validator_for(schema)
    event = json.loads(encode(examples()[kind]))
    for right in (event, {**event, "from_a_later_version": {}}):
        assert validator.is_valid(right)
    for field, value in (("type", "other"), ("event_id", 1), ("v", "one")):
        assert not validator.is_valid({**event, field: value})


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_subject_is_the_one_that_is_parsed(kind: str) -> None:
    address = CONTRACT["channels"][kind]["address"].format(queue=queue_token("deploys"), job="a" * 24)
    assert parse_event_subject(address) == (kind, queue_token("deploys"), "a" * 24)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_an_earlier_version_wrote_can_be_read(path: Path) -> None:
    written = json.loads(path.read_bytes())
    read = json.loads(encode(decode(path.read_bytes(), EVENT_TYPES[path.stem])))
    assert written.items() <= read.items(), "each field still has its meaning"


@pytest.mark.parametrize("kind", OPERATIONS)
def test_what_an_earlier_version_wrote_of_an_operation_can_be_read(kind: str) -> None:
    assert not EVENT_TYPES.keys() & OPERATIONS.keys()
    address = EventAddress(kind, queue_token("deploys"), "a" * 24)
    for path in sorted(DONE.glob(f"*/{kind}.json")):
        read = to_operation(address, path.read_bytes(), sequence=1, time="2026-01-01T12:00:00Z").event
        assert read is not None
        written = json.loads(path.read_bytes())
        assert written == json.loads(encode(read))
        assert set(written) - {"type"} == set(OPERATIONS[kind].__struct_fields__), f"add the new field to {path}"
    assert to_operation(address, b"[]", sequence=1, time="2026-01-01T12:00:00Z").event is None


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_golden_files_have_each_field(kind: str) -> None:
    """A new field is added to the file of the version that is being made."""
    path = GOLDEN / "0.1-full" / f"{kind}.json"
    assert path.exists(), f"write an event of this kind with all its fields to {path}"
    written = set(json.loads(path.read_bytes())) - {"type"}
    assert written == set(EVENT_TYPES[kind].__struct_fields__), f"add the new field, with a value, to {path}"


def test_all_references_lead_somewhere() -> None:
    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(CONTRACT)
    assert found
    for reference in found:
        node = CONTRACT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.output)["asyncapi"] == "3.0.0"


def test_bytes_that_cannot_be_read_still_give_a_view() -> None:
    whole = records(submitted(), started(), launched(), ended())
    job = fold([msgspec.structs.replace(stored, event=None) for stored in whole])
    assert job is not None
    assert (view(job).status, view(job).reason, view(job).qname) == ("unknown", "internal", "deploys")


def test_a_job_that_was_deleted_while_it_waited_has_failed_for_no_reason_of_stints() -> None:
    shown = view(job_of(submitted(), deleted()))
    assert (shown.status, shown.reason, shown.output_complete) == ("deleted", "", True)


def test_a_page_can_tell_when_a_job_will_be_killed() -> None:
    job = job_of(submitted(), msgspec.structs.replace(started(), kill_grace=7.5), launched(), kill_requested())
    assert (view(job).kill_grace, view(job).kill_requested_at) == (7.5, "2026-01-02T03:04:04.123Z")


def test_a_job_expires_after_its_end() -> None:
    assert expiry(job_of(submitted()), timedelta(hours=6)) is None
    assert expiry(job_of(submitted(), ended("failed")), timedelta(hours=6)) == parse_time("2026-01-02T09:04:02.123456Z")


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's own zone is another."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05.1", 100_000),
        ("2026-01-02T03:04:05.123456789Z", 123_456),
        ("2026-01-02T05:04:05+02:00", 0),
    ],
)
def test_stream_times(text: str, microsecond: int) -> None:
    assert parse_time(text) == datetime(2026, 1, 2, 3, 4, 5, microsecond, tzinfo=UTC)
    assert parse_time(text).utcoffset() == timedelta(0)


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
    assert to_record(EventAddress(kind, "me", "0" * 24), body, sequence=1, time="").event is None
