"""What the table of views knows of queues, compared with a walk over all jobs; and what a fleet serves."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.job import ACTIVE, State
from stint.core.view import NEVER, JobView
from stint_api.read.listing.queue_rows import MINUTE, MINUTES, WAITING_SHOWN
from stint_api.read.listing.table import Table
from stint_api.read.runners import Fleet
from tests.support.views import filled, job_view

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@st.composite
def views(draw: st.DrawFn) -> list[JobView]:
    """Jobs of some queues, at most one of which runs in each, in any order of ids and submissions."""
    places = draw(st.lists(st.integers(1, 1000), unique=True, max_size=12))
    found, active = [], set()
    for number, place in enumerate(places):
        qname, status = draw(st.sampled_from("abc")), draw(st.sampled_from(["queued", "running", "success", "failed"]))
        if status == "running" and qname in active:
            status = "queued"
        active |= {qname} if status == "running" else set()
        over, held = status in {"success", "failed"}, status == "running" and draw(st.booleans())
        ended = rfc3339(NOW - timedelta(minutes=draw(st.integers(1, 200)))) if over else NEVER
        job = job_view(number, qname=qname, status=status, ended=ended, held=held)
        found.append(msgspec.structs.replace(job, submission=place))
    return found


@given(views())
def test_queues_are_what_a_walk_finds(jobs: list[JobView]) -> None:
    table = filled(*jobs)
    rows = {row.qname: row for row in table.queue_rows(NOW - HOUR)}
    assert set(rows) == {job.qname for job in jobs}
    for qname, row in rows.items():
        mine = [job for job in jobs if job.qname == qname]
        waiting = sorted((job for job in mine if job.status is State.QUEUED), key=lambda job: job.submission)
        recent = [job for job in mine if job.ended != NEVER and job.ended > rfc3339(NOW - HOUR)]
        head = next((job for job in mine if job.status in ACTIVE), None)
        assert (row.depth, row.ended) == (len(waiting), len(recent))
        assert row.failed == sum(job.status is not State.SUCCESS for job in recent)
        assert (row.head.job_id, row.head.held) == (head.job_id, head.held) if head and row.head else row.head is head
        assert table.queue_rows(NOW - HOUR, qname) == [row]
        assert table.waiting(qname) == [job.job_id for job in waiting]
        assert table.ahead(qname, [job.submission for job in waiting]) == [*range(len(waiting))]
    assert dict(table.depths()) == {qname: row.depth for qname, row in rows.items() if row.depth}
    assert table.queue_rows(NOW - HOUR, "none") == []


def test_of_a_long_queue_the_first_jobs_are_named_and_all_are_counted() -> None:
    count = 3 * WAITING_SHOWN
    one, ids = job_view(0, qname="a"), [f"{number:024x}" for number in range(count)]
    jobs = [msgspec.structs.replace(one, job_id=job_id, submission=count - n) for n, job_id in enumerate(ids)]
    table = filled(*jobs)
    assert table.waiting("a") == [job.job_id for job in reversed(jobs)][:WAITING_SHOWN]
    assert table.ahead("a", [1, count]) == [0, count - 1]


SECONDS = st.integers(0, 3 * 3600)
LATER = NOW + timedelta(seconds=17)
"""In the midst of a minute."""


@st.composite
def histories(draw: st.DrawFn) -> list[JobView]:
    """Jobs of one queue that were submitted, claimed and ended at any time of the last hours, or not yet."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        begin, *rest = sorted((draw(SECONDS) for _ in range(draw(st.integers(1, 3)))), reverse=True)
        submitted, times = LATER - timedelta(seconds=begin), [LATER - timedelta(seconds=ago) for ago in rest]
        claimed = bool(times) and (len(times) == 2 or draw(st.booleans()))
        over = len(times) == 2 or (bool(times) and not claimed)
        status = draw(st.sampled_from(["success", "failed"])) if over else "running" if claimed else "queued"
        ended = rfc3339(times[-1]) if over else NEVER
        job = job_view(number, qname="a", status=status, ended=ended)
        started = rfc3339(times[0]) if claimed else NEVER
        found.append(msgspec.structs.replace(job, submitted=rfc3339(submitted), started=started))
    return found


def test_the_first_minute_has_what_ended_as_it_began_and_a_clock_that_was_set_back_makes_no_depth_negative() -> None:
    begin = rfc3339(filled().last_hour("a", LATER).since)
    job = msgspec.structs.replace(job_view(0, qname="a", status="success", ended=begin), submitted=begin)
    assert filled(job).last_hour("a", LATER).ended[0] == 1
    job = msgspec.structs.replace(job_view(0, qname="a", status="running"), submitted=rfc3339(LATER))
    job = msgspec.structs.replace(job, started=rfc3339(LATER - timedelta(minutes=10)))
    assert filled(job).last_hour("a", LATER).depth == [0] * MINUTES


@given(histories())
def test_a_queues_last_hour_is_what_its_jobs_say(jobs: list[JobView]) -> None:
    shown = filled(*jobs).last_hour("a", LATER)
    assert shown.since <= LATER - (MINUTES - 1) * MINUTE < shown.since + MINUTE
    for number in range(MINUTES):
        begin = shown.since + number * MINUTE
        end = LATER + timedelta(seconds=1) if number == MINUTES - 1 else begin + MINUTE
        waiting = [job for job in jobs if at(job.submitted) < end and left(job) >= end]
        claimed = [job for job in jobs if begin <= at(job.started) < end]
        over = [job for job in jobs if begin <= at(job.ended) < end]
        busy = (min(end, at(job.ended), LATER) - max(begin, at(job.started)) for job in jobs)
        assert shown.depth[number] == len(waiting)
        assert shown.busy[number] == sum(max(0.0, span.total_seconds()) for span in busy)
        waits = [(at(job.started) - at(job.submitted)).total_seconds() for job in claimed]
        assert shown.longest_wait[number] == (max(waits) if waits else None)
        assert shown.ended[number] == len(over)
        assert shown.failed[number] == sum(job.status is not State.SUCCESS for job in over)


def at(moment: str) -> datetime:
    """A time, far in the future if it has not come."""
    return NOW + timedelta(days=1) if moment == NEVER else datetime.fromisoformat(moment)


def left(job: JobView) -> datetime:
    return min(at(job.started), at(job.ended))


def test_minutes_of_which_nothing_is_kept_are_not_known() -> None:
    table = Table(timedelta(minutes=10, seconds=30))
    table.complete()
    shown = table.last_hour("a", LATER)
    assert shown.depth == [None] * (MINUTES - 11) + [0] * 11
    assert shown.ended == shown.depth


@pytest.mark.parametrize(
    ("reports", "served", "room"),
    [
        ([], "", ""),
        ([{"capacity": 2, "busy": 1}], "ab", "ab"),
        ([{"capacity": 2, "busy": 2, "queues": []}], "ab", ""),
        ([{"capacity": 1, "queues": ["a*"]}], "a", "a"),
        ([{"capacity": 1, "queues": ["a"], "draining": True}], "", ""),
        ([{"capacity": 1, "busy": 1, "queues": ["a"]}, {"capacity": 1, "queues": ["a"]}], "a", "a"),
        ([{"capacity": 1, "queues": ["a" + "[" * 60_000]}, {"queues": ["*a" * 100_000]}], "", ""),
        ([{"capacity": 1, "queues": ["*" * 2000]}], "", ""),
        ([{"capacity": "many", "busy": None, "queues": "a"}, {"queues": [1, None]}], "ab", ""),
    ],
)
def test_a_fleet_serves_what_its_runners_report(reports: list[Mapping[str, Any]], served: str, room: str) -> None:
    fleet = Fleet(reports)
    assert "".join(qname for qname in "ab" if fleet.serves(qname)) == served
    assert "".join(qname for qname in "ab" if fleet.has_room(qname)) == room
