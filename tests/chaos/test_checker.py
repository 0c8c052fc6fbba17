"""The checker finds each kind of fault in evidence that is otherwise good, and none in good evidence."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from stint.core.events import Ended
from tests.chaos.checker import check
from tests.chaos.checker_bench import START, Run, good
from tests.chaos.evidence import Answer, Pause, Sight
from tests.support import events


def test_good_evidence_has_no_violation() -> None:
    assert check(good().evidence()) == []


def test_a_job_whose_answer_was_lost_may_be_there_or_not() -> None:
    run = good()
    run.whole("other")
    hidden = run.submissions.pop()
    assert run.found() == {("I9", hidden.key)}, "what runs must have been sent"
    run.submissions[-1] = msgspec.structs.replace(hidden, job_id="", answer=Answer.UNKNOWN)
    assert run.found() == set()


def test_a_payload_whose_api_died_before_the_submission_stays_for_an_hour() -> None:
    run = good()
    run.whole("x")
    item = run.submissions[-1]
    run.extra["left"] = [("payload", f"pl.{item.token}.{'f' * 24}.0")]
    assert {invariant for invariant, _ in run.found()} == {"I7"}, "nobody was left without an answer"
    for job_id in ("", "f" * 24):  # no answer at all, or a 503 that names the job
        run.submissions.append(msgspec.structs.replace(item, key="cut off", job_id=job_id, answer=Answer.UNKNOWN))
        assert run.found() == set()
        run.submissions.pop()


Plant = Callable[[Run], tuple[str, str]]
"""Spoils a run, and returns the invariant and the subject that the checker must name."""


def overlap(run: Run) -> tuple[str, str]:
    first, second = run.submit("x"), run.submit("x")
    run.start(first)
    run.fact(first.job_id, events.ended("unknown", "lost"), "x")
    run.start(second)
    run.sees(first.key, "tick", queue="x")
    run.end(second)
    return "I1", first.key


def lock_taken(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.truth["x"].insert(0, Sight(item.key, "overlap", f"{item.key}.1"))
    return "I1", item.key


def overlap_in_log(run: Run) -> tuple[str, str]:
    first, second = run.submit("x"), run.submit("x")
    run.fact(first.job_id, events.started(), "x")
    run.fact(second.job_id, events.started(), "x")
    run.fact(first.job_id, events.ended("unknown", "lost"), "x")
    run.fact(second.job_id, events.ended("unknown", "lost"), "x")
    return "I1", second.job_id


def lost(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.records = [record for record in run.records if record.job_id != item.job_id]
    run.output.pop(item.job_id)
    run.truth["x"].clear()
    return "I2", item.job_id


def unended(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.extra["faults"] = ()
    return "I2", item.job_id


def two_ends(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.fact(item.job_id, events.rejected(), "x")
    return "I2", item.job_id


def ghost(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.submissions.remove(item)
    run.fact(item.job_id, events.rejected(), "x")
    return "I2", item.job_id


def refused(run: Run) -> tuple[str, str]:
    item = run.submit("x", Answer.REFUSED)
    run.fact(item.job_id, events.rejected(), "x")
    return "I2", item.job_id


def ran_twice(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.sees(item.key, "begin", "end", process="again", queue="x")
    return "I3", item.key


def out_of_order(run: Run) -> tuple[str, str]:
    first, second = run.submit("x"), run.submit("x")
    for item in (second, first):
        run.start(item)
        run.end(item)
    return "I4", second.job_id


def ran_out_of_order(run: Run) -> tuple[str, str]:
    run.whole("x")
    second = run.whole("x")
    run.truth["x"].sort(key=lambda sight: sight.key != second.key)
    return "I4", second.key


def view_behind(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.extra["views"] = run.views()
    run.fact(item.job_id, events.rejected(), "x")
    return "I5", item.job_id


def view_missing(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.extra["rebuilt"] = {job_id: value for job_id, value in run.views().items() if job_id != item.job_id}
    return "I5", item.job_id


def view_of_a_deleted_job(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.extra["views"] = run.views()
    run.fact(item.job_id, events.deleted(), "x")
    return "I5", item.job_id


def chunk_dropped(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    del run.output[item.job_id][0]
    return "I6", item.job_id


def last_chunk_dropped(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.output[item.job_id].pop()
    return "I6", item.job_id


def output_not_the_commands(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.submissions[-1] = msgspec.structs.replace(item, lines=item.lines + 1)
    return "I6", item.job_id


def output_said_incomplete(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    ended = run.records[-1].event
    assert isinstance(ended, Ended)
    broken = msgspec.structs.replace(ended, output_complete=False)
    run.records[-1] = msgspec.structs.replace(run.records[-1], event=broken)
    return "I6", item.job_id


def lost_job_with_another_output(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.records[-1] = msgspec.structs.replace(run.records[-1], event=events.ended("unknown", "lost"))
    run.output[item.job_id] = [msgspec.structs.replace(run.output[item.job_id][0], data=b"x", digest="")]
    return "I6", item.job_id


def left_behind(run: Run) -> tuple[str, str]:
    run.extra["left"] = [("container", "c1")]
    return "I7", "c1"


def payload_left_behind(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    name = f"pl.{item.token}.{item.job_id}.0"
    run.extra["left"] = [("payload", name)]
    return "I7", name


def starved(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.seconds += 100
    run.start(item)
    run.end(item)
    return "I8", item.token


def never_ended(run: Run) -> tuple[str, str]:
    item = run.submit("x", Answer.UNKNOWN)
    return "I8", item.job_id


def illegal(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    run.fact(item.job_id, events.kill_requested(), "x")
    return "I9", item.job_id


def ran_after_deleted(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.fact(item.job_id, events.deleted(), "x")
    run.sees(item.key, "begin", queue="x")
    return "I9", item.job_id


def ran_unclaimed(run: Run) -> tuple[str, str]:
    item = run.submit("x")
    run.sees(item.key, "begin", queue="x")
    run.fact(item.job_id, events.rejected(), "x")
    return "I9", item.job_id


PLANTED: list[Plant] = [overlap, lock_taken, overlap_in_log, lost, unended, two_ends, ghost, refused, ran_twice]
PLANTED += [out_of_order, ran_out_of_order, view_behind, view_missing, view_of_a_deleted_job, chunk_dropped]
PLANTED += [last_chunk_dropped, output_not_the_commands, output_said_incomplete, lost_job_with_another_output]
PLANTED += [left_behind, payload_left_behind, starved, never_ended, illegal, ran_after_deleted, ran_unclaimed]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant) -> None:
    run = good()
    expected = plant(run)
    found = run.found()
    assert expected in found
    assert {subject for _, subject in found} <= {expected[1], *_names(run, expected[1])}, "and nothing else is blamed"


def _names(run: Run, subject: str) -> set[str]:
    """All names of the same job."""
    items = [item for item in run.submissions if subject in {item.key, item.job_id}]
    return {name for item in items for name in (item.key, item.job_id)}


def test_waiting_during_a_fault_or_for_an_operator_is_no_starvation() -> None:
    run = good()
    item = run.submit("x")
    run.seconds += 100
    now = START + timedelta(seconds=run.seconds)
    run.start(item)
    run.end(item)
    run.extra["faults"] = [Pause("pause", "nats", now - timedelta(seconds=50), now)]
    assert run.found() == set()
    run.extra["faults"] = ()
    held = run.submit("y")
    run.fact(held.job_id, events.started(), "y")
    run.fact(held.job_id, events.held(), "y")
    run.seconds += 100
    run.fact(held.job_id, events.released(), "y")
    run.fact(held.job_id, events.ended("unknown", "lost"), "y")
    assert run.found() == {("I8", item.token)}
