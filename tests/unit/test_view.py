from datetime import timedelta

import msgspec
import pytest

from stint.core.events import AnyEvent
from stint.core.job import fold
from stint.core.view import NEVER, JobView, expiry, parse_time, view
from tests.support.events import ended, kill_requested, launched, record, records, rejected, started, submitted


def _view(*events: AnyEvent) -> JobView:
    job = fold(records(*events))
    assert job is not None
    return view(job)


def test_a_queued_job() -> None:
    shown = _view(submitted())
    assert (shown.status, shown.node_uuid, shown.qname, shown.submitted_by) == ("queued", "", "deploys", "someone")
    assert shown.submitted == "2026-01-02T03:04:01.123Z"
    assert (shown.started, shown.ended, shown.kill_requested) == (NEVER, NEVER, False)


def test_a_whole_life() -> None:
    shown = _view(submitted(), started(), launched(), kill_requested(), ended("failed", "killed", 143))
    assert (shown.status, shown.reason, shown.return_code, shown.kill_requested) == ("failed", "killed", 143, True)
    assert (shown.container_id, shown.container_image, shown.node_uuid) == ("c" * 64, "busybox", "runner-1")
    assert (shown.started, shown.ended) == ("2026-01-02T03:04:02.123Z", "2026-01-02T03:04:05.123Z")


def test_a_rejected_submission_shows_as_failed() -> None:
    shown = _view(submitted(), rejected())
    assert (shown.status, shown.reason, shown.error) == ("failed", "rejected", "no submission")
    assert shown.ended != NEVER


def test_bytes_that_cannot_be_read_still_give_a_view() -> None:
    unreadable = [
        msgspec.structs.replace(stored, event=None) for stored in records(submitted(), started(), launched(), ended())
    ]
    job = fold(unreadable)
    assert job is not None
    assert (view(job).status, view(job).reason, view(job).qname) == ("unknown", "internal", "deploys")


def test_a_job_expires_after_its_end() -> None:
    queued, done = fold(records(submitted())), fold([record(submitted(), 1), record(ended("failed"), 2)])
    assert queued is not None
    assert done is not None
    assert expiry(queued, timedelta(hours=6)) is None
    assert expiry(done, timedelta(hours=6)) == parse_time("2026-01-02T09:04:02.123456Z")


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-01-02T03:04:05Z", 0), ("2026-01-02T03:04:05.1Z", 100_000), ("2026-01-02T03:04:05.123456789Z", 123_456)],
)
def test_stream_times(text: str, microsecond: int) -> None:
    assert parse_time(text).microsecond == microsecond
    assert parse_time(text).utcoffset() == timedelta(0)
