"""The checker finds each kind of fault in evidence that is otherwise good, and none in good evidence."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stint.core.events import AnyEvent
from tests.chaos.checker import BEHIND, check
from tests.chaos.checker_bench import START, Run, good
from tests.chaos.evidence import Answer, Pause, Sight, Submission
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
    cut_off = [("", Answer.UNKNOWN), ("f" * 24, Answer.UNKNOWN), ("", Answer.REFUSED)]
    for job_id, answer in cut_off:  # no answer at all, a 503 that names the job, and one that does not
        run.submissions.append(msgspec.structs.replace(item, key="cut off", job_id=job_id, answer=answer))
        assert run.found() == set()
        run.submissions.pop()


Spoil = Callable[[Run, Submission], object]


def start_late(run: Run, item: Submission) -> None:
    run.seconds += 100
    run.start(item)
    run.end(item)


def lose(run: Run, item: Submission) -> None:
    run.records = [record for record in run.records if record.job_id != item.job_id]
    run.output.pop(item.job_id)
    run.truth["x"].clear()


def disown(run: Run, item: Submission) -> None:
    run.submissions.remove(item)
    run.fact(item.job_id, events.rejected(), "x")


def run_unclaimed(run: Run, item: Submission, end: AnyEvent) -> None:
    run.sees(item.key, "begin", queue="x")
    run.fact(item.job_id, end, "x")


def keep_views(run: Run, item: Submission, later: AnyEvent) -> None:
    run.extra["views"] = run.views()
    run.fact(item.job_id, later, "x")


def end_with(run: Run, **changes: Any) -> None:
    end: Any = run.records[-1].event
    run.records[-1] = msgspec.structs.replace(run.records[-1], event=msgspec.structs.replace(end, **changes))


def lose_the_runner(run: Run, item: Submission) -> None:
    end_with(run, status="unknown", reason="lost")
    run.output[item.job_id] = [msgspec.structs.replace(run.output[item.job_id][0], data=b"x", digest="")]


SUBMITTED: dict[str, tuple[str, str, Spoil]] = {
    "unended": ("I2", "job_id", lambda _run, _item: None),
    "refused": ("I2", "job_id", lambda run, item: run.change(item, answer=Answer.REFUSED)),
    "nobody's": ("I2", "job_id", disown),
    "view behind": ("I5", "job_id", lambda run, item: keep_views(run, item, events.rejected())),
    "starved": ("I8", "token", start_late),
    "never ended": ("I8", "job_id", lambda run, item: run.change(item, answer=Answer.UNKNOWN)),
    "ran after it was deleted": ("I9", "job_id", lambda run, item: run_unclaimed(run, item, events.deleted())),
    "ran unclaimed": ("I9", "job_id", lambda run, item: run_unclaimed(run, item, events.rejected())),
}
"""What is done to a run of which a job was submitted; the invariant, and by which of its names the job is blamed."""
ENDED: dict[str, tuple[str, str, Spoil]] = {
    "lock taken": (
        "I1",
        "key",
        lambda run, item: run.truth["x"].insert(0, Sight(item.key, "overlap", f"{item.key}.1")),
    ),
    "lost": ("I2", "job_id", lose),
    "two ends": ("I2", "job_id", lambda run, item: run.fact(item.job_id, events.rejected(), "x")),
    "blamed": ("I2", "job_id", lambda run, _item: end_with(run, status="failed", reason="payload")),
    "ran twice": ("I3", "key", lambda run, item: run.sees(item.key, "begin", "end", process="again", queue="x")),
    "view missing": ("I5", "job_id", lambda run, item: run.extra.update(rebuilt=run.views(without=item.job_id))),
    "view of a deleted job": ("I5", "job_id", lambda run, item: keep_views(run, item, events.deleted())),
    "chunk dropped": ("I6", "job_id", lambda run, item: run.output[item.job_id].pop(0)),
    "last chunk dropped": ("I6", "job_id", lambda run, item: run.output[item.job_id].pop()),
    "output not the command's": ("I6", "job_id", lambda run, item: run.change(item, lines=item.lines + 1)),
    "output said incomplete": ("I6", "job_id", lambda run, _item: end_with(run, output_complete=False)),
    "lost with another output": ("I6", "job_id", lose_the_runner),
    "illegal": ("I9", "job_id", lambda run, item: run.fact(item.job_id, events.kill_requested(), "x")),
}
"""The same of a run of which a job has ended."""


@pytest.mark.parametrize("name", [*SUBMITTED, *ENDED])
def test_a_fault_of_a_job_is_found(name: str) -> None:
    run = good()
    item = run.submit("x") if name in SUBMITTED else run.whole("x")
    invariant, blamed, spoil = (SUBMITTED | ENDED)[name]
    spoil(run, item)
    found = run.found()
    assert (invariant, getattr(item, blamed)) in found
    assert {subject for _, subject in found} <= {item.key, item.job_id, getattr(item, blamed)}, "no other is blamed"


def test_a_kill_behind_the_end_that_was_being_stored_is_no_fault_of_a_cluster() -> None:
    run = good()
    job_id = run.whole("x").job_id
    run.fact(job_id, events.kill_requested(), "x")
    assert run.found()
    run.extra["servers"] = 3
    assert not run.found()
    run.seconds += BEHIND.total_seconds()
    run.fact(job_id, events.kill_requested(), "x")
    assert run.found() == {("I9", job_id)}, "nobody was storing its end any more"


def overlap(run: Run) -> tuple[str, str]:
    first, second = run.submit("x"), run.submit("x")
    run.start(first)
    run.fact(first.job_id, events.ended("unknown", "lost"), "x")
    run.start(second)
    run.sees(first.key, "tick", queue="x")
    run.end(second)
    return "I1", first.key


def overlap_in_log(run: Run) -> tuple[str, str]:
    first, second = run.submit("x"), run.submit("x")
    for event in (events.started(), events.ended("unknown", "lost")):
        run.fact(first.job_id, event, "x")
        run.fact(second.job_id, event, "x")
    return "I1", second.job_id


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


def left_behind(run: Run) -> tuple[str, str]:
    run.extra["left"] = [("container", "c1")]
    return "I7", "c1"


def payload_left_behind(run: Run) -> tuple[str, str]:
    item = run.whole("x")
    name = f"pl.{item.token}.{item.job_id}.0"
    run.extra["left"] = [("payload", name)]
    return "I7", name


@pytest.mark.parametrize(
    "plant",
    [overlap, overlap_in_log, out_of_order, ran_out_of_order, left_behind, payload_left_behind],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_fault_is_found(plant: Callable[[Run], tuple[str, str]]) -> None:
    """Each spoils a run, and returns the invariant and the subject that the checker must name."""
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
