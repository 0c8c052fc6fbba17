from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stint.core.commands import claim, delete, kill, release
from stint.core.errors import IllegalCommandError
from stint.core.events import EVENT_TYPES, AnyEvent, Record, Submitted
from stint.core.job import ACTIVE, LEGAL, TERMINAL, Job, State, evolve, fold
from tests.support.events import (
    TOKEN,
    deleted,
    ended,
    held,
    job_of,
    kill_requested,
    launched,
    record,
    rejected,
    released,
    started,
    submitted,
)

OTHER_TOKEN = "me"

MAKERS: list[Callable[[], AnyEvent]] = [submitted, started, launched, kill_requested, held, released, rejected, deleted]
EVENTS: st.SearchStrategy[AnyEvent] = st.one_of(
    *map(st.builds, MAKERS),
    st.builds(ended, st.sampled_from(["success", "failed", "notauthorised", "unknown", "queued", "", "nonsense"])),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Any facts in any order, some under another queue, some unreadable, some of unknown kinds."""
    history: list[Record] = []
    for sequence, event in enumerate(draw(st.lists(EVENTS, max_size=12)), start=1):
        stored = record(event, sequence, token=draw(st.sampled_from([TOKEN, TOKEN, TOKEN, OTHER_TOKEN])))
        readable = draw(st.sampled_from([True, True, True, False]))
        history.append(stored if readable else msgspec.structs.replace(stored, event=None))
    if draw(st.booleans()) and history:
        history.append(msgspec.structs.replace(history[0], sequence=len(history) + 1, kind="future", event=None))
    return history


@given(histories(), st.integers(0, 12))
def test_a_history_is_folded_in_any_pieces_and_any_number_of_times(history: list[Record], cut: int) -> None:
    """A job's queue is that of its first submission."""
    job = fold(history)
    assert fold(history[cut:], fold(history[:cut])) == fold(history, job) == job
    assert fold([*history, *reversed(history)]) == job
    first = next((stored for stored in history if stored.kind == Submitted.kind), None)
    assert (job.token if job else None) == (first.token if first else None)
    sequences = [fact.sequence for fact in job.facts.values()] if job else []
    assert sequences == sorted(sequences), "receipts and streams tell them in this order"


@given(histories())
@example([record(submitted(), 1), msgspec.structs.replace(record(ended(), 2), event=None)])
def test_a_step_is_taken_if_it_is_in_the_table_and_was_not_taken_before(history: list[Record]) -> None:
    """Whether it can be read or not."""
    job: Job | None = None
    for stored in history:
        before, job = job, evolve(job, stored)
        if before is None or job is None:
            assert job is None or job.state in LEGAL[None][stored.kind]
            continue
        ours = stored.token == before.token
        counts = ours and stored.kind in LEGAL[before.state] and stored.kind not in before.facts
        assert (job.facts != before.facts) is counts
        assert job.state in (LEGAL[before.state][stored.kind] if counts else {before.state})
        assert job.sequence == (stored if ours else before).sequence, "the next append is conditional on it"


def test_the_table_names_every_state_and_every_kind() -> None:
    assert set(LEGAL) == {None, *State}
    assert sorted([*ACTIVE, *TERMINAL, State.QUEUED]) == sorted(State), "each state is one of these"
    assert {kind for row in LEGAL.values() for kind in row} == set(EVENT_TYPES) == {c.kind for c in get_args(AnyEvent)}
    for state in State:
        if state not in TERMINAL:
            assert LEGAL[state]["ended"] <= TERMINAL, "one that bars the real one by taking its subject is an end, too"
        else:
            assert {*LEGAL[state]} == {"deleted"} - {state}, "nothing else follows an end"


REQUESTED, KILLED = kill_requested(), ended("failed", "killed")
RELEASED, LOST = released(), ended("unknown", "lost")


@pytest.mark.parametrize(
    ("events", "state", "wanted"),
    [
        ([], State.QUEUED, (REQUESTED, KILLED)),
        ([started()], State.RUNNING, (REQUESTED,)),
        ([started(), held()], State.RUNNING, (REQUESTED,)),
        ([kill_requested()], State.QUEUED, (KILLED,)),  # left half done
        ([started(), kill_requested()], State.STOPPING, ()),
        ([started(), held(), kill_requested()], State.STOPPING, ()),
        ([started(), ended()], State.SUCCESS, ()),
        ([rejected()], State.FAILED, ()),
    ],
)
def test_what_a_kill_adds(events: list[AnyEvent], state: State, wanted: tuple[AnyEvent, ...]) -> None:
    job = job_of(submitted(), *events)
    assert job.state is state
    assert kill(job, REQUESTED, KILLED) == wanted


def test_only_a_queued_job_is_claimed() -> None:
    claimed = started()
    assert claim(job_of(submitted()), claimed) == (claimed,)
    taken: list[tuple[AnyEvent, ...]] = [(started(),), (kill_requested(),), (deleted(),), (started(), ended())]
    for events in taken:
        with pytest.raises(IllegalCommandError):
            claim(job_of(submitted(), *events), claimed)


def test_a_running_job_cannot_be_deleted() -> None:
    gone = deleted()
    assert delete(job_of(submitted()), gone) == (gone,)
    assert delete(job_of(submitted(), started(), ended()), gone) == (gone,)
    assert delete(job_of(submitted(), deleted()), gone) == ()
    running: list[tuple[AnyEvent, ...]] = [(), (kill_requested(),), (held(),), (held(), kill_requested())]
    for events in running:
        with pytest.raises(IllegalCommandError, match="Cannot delete a running/stopping job"):
            delete(job_of(submitted(), started(), *events), gone)


def test_only_a_held_job_is_released_and_it_ends_with_that() -> None:
    """Whether somebody has asked for its end or not."""
    for job in (job_of(submitted(), started(), held()), job_of(submitted(), started(), held(), kill_requested())):
        assert job.held
        facts = release(job, RELEASED, LOST)
        assert [fact.kind for fact in facts] == ["released", "ended"]
        after = fold([record(fact, 10 + n) for n, fact in enumerate(facts)], job)
        assert after is not None
        assert (after.state, after.held) == (State.UNKNOWN, False)
    others: list[tuple[AnyEvent, ...]] = [(), (started(),), (started(), held(), ended()), (held(), started())]
    for events in others:
        with pytest.raises(IllegalCommandError, match="Only a job that is held"):
            release(job_of(submitted(), *events), RELEASED, LOST)


def test_a_release_changes_nothing_the_second_time_and_finishes_what_was_left_half_done() -> None:
    assert release(job_of(submitted(), started(), held(), released(), ended("unknown", "lost")), RELEASED, LOST) == ()
    assert release(job_of(submitted(), started(), held(), released()), RELEASED, LOST) == (LOST,)
