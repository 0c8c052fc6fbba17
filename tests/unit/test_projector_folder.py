"""Which jobs are folded in memory, and which must be loaded."""

import pytest
from msgspec.structs import replace

from stint.core.codec import encode
from stint.core.events import AnyEvent
from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.jetstream import Delivered
from stint_projector.follower import LARGE, Folder
from stint_projector.project import Projected
from tests.support.events import TOKEN, ended, started, submitted
from tests.unit.test_projector import JOB

OTHER = "f" * 24


def delivered(
    number: int, event: AnyEvent, *, job_id: str = JOB, sequence: int = 0, deliveries: int = 1, first: bool = True
) -> Delivered:
    return Delivered(
        subject=EventAddress(event.kind, TOKEN, job_id).subject,
        data=encode(event),
        sequence=sequence or number,
        time="2026-01-02T00:00:00Z",
        number=number,
        deliveries=deliveries,
        first=first,
        ack_subject="",
    )


def in_queue(name: str, event: Delivered) -> Delivered:
    return event._replace(subject=EventAddress("submitted", queue_token(name), JOB).subject)


def projected(folder: Folder, *events: Delivered) -> list[Projected]:
    """The jobs that these events change, which are then stored as revision 7."""
    changes = folder.fold(events)
    assert changes.unknown == {}
    folder.remember([Projected(known.job, 7) for known in changes.folded])
    return list(changes.folded)


def test_a_job_is_followed_from_its_submission_to_its_end() -> None:
    folder = Folder()
    (new,) = projected(folder, delivered(1, submitted()))
    assert (new.job.state, new.revision) == (State.QUEUED, 0)
    (running,) = projected(folder, delivered(2, started(), sequence=9))
    assert (running.job.state, running.job.sequence, running.revision) == (State.RUNNING, 9, 7)
    (over,) = projected(folder, delivered(3, ended(), sequence=10))
    assert (over.job.state, over.revision) == (State.SUCCESS, 7)
    assert folder.fold([delivered(4, ended(), sequence=11)]).unknown == {JOB: 11}, "a job that has ended is forgotten"


def test_what_the_view_shows_already_changes_nothing() -> None:
    folder = Folder()
    projected(folder, delivered(1, submitted()), delivered(2, started()))
    assert projected(folder, delivered(3, started(), sequence=2, deliveries=2)) == []
    (over,) = projected(folder, delivered(4, ended()))
    assert over.job.state is State.SUCCESS


def test_what_a_stranger_submits_to_other_queues_under_a_jobs_id_loads_nothing_unless_it_came_first() -> None:
    folder = Folder()
    projected(folder, delivered(1, submitted(), sequence=5))
    for number, name in enumerate(["b", "c"], start=2):
        assert projected(folder, in_queue(name, delivered(number, submitted(), sequence=4 + number))) == []
    strangers = in_queue("d", delivered(4, submitted(), sequence=8))
    (running,) = projected(folder, strangers, delivered(5, started(), sequence=9))
    assert running.job.state is State.RUNNING
    assert folder.fold([in_queue("b", delivered(6, submitted(), sequence=4))]).unknown == {JOB: 4}


def test_an_event_that_others_may_have_seen_begins_no_job() -> None:
    for event in (delivered(1, submitted(), deliveries=2, first=False), delivered(1, submitted(), first=False)):
        changes = Folder().fold([event, delivered(2, started())])
        assert (changes.folded, changes.unknown) == ([], {JOB: 2})


@pytest.mark.parametrize(("deliveries", "sequences"), [((1, 2), (3, 4)), ((2, 1), (3, 4)), ((2, 2), (4, 3))])
def test_a_new_event_that_was_delivered_before_is_loaded(
    deliveries: tuple[int, int], sequences: tuple[int, int]
) -> None:
    folder = Folder()
    projected(folder, delivered(1, submitted()), delivered(2, submitted(), job_id=OTHER))
    running = delivered(3, started(), deliveries=deliveries[0], sequence=sequences[0])
    changes = folder.fold([running, delivered(4, ended(), deliveries=deliveries[1], sequence=sequences[1])])
    assert (changes.folded, changes.unknown) == ([], {JOB: 4})
    (other,) = projected(folder, delivered(5, started(), job_id=OTHER))
    assert other.job.state is State.RUNNING


def test_what_names_no_job_is_left_out() -> None:
    event = delivered(1, submitted(), job_id="junk")
    (new,) = projected(Folder(), event, event._replace(number=2, subject="ev.junk"), delivered(3, submitted()))
    assert new.job.job_id == JOB


def test_nothing_is_remembered_behind_a_gap_or_of_another_consumer() -> None:
    folder = Folder()
    projected(folder, delivered(1, submitted()), delivered(2, submitted(), job_id=OTHER))
    assert folder.fold([delivered(4, started())]).unknown == {JOB: 4}, "somebody else has had an event"
    projected(folder, delivered(5, submitted()))
    folder.forget()
    assert folder.fold([delivered(6, started())]).unknown == {JOB: 6}


def test_only_so_many_jobs_are_remembered_and_those_that_changed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_projector.follower.KEPT", 3)
    folder = Folder()
    ids = [f"{number:024x}" for number in range(4)]
    projected(folder, *(delivered(number, submitted(), job_id=job_id) for number, job_id in enumerate(ids[:-1], 1)))
    projected(folder, delivered(4, started(), job_id=ids[0]))
    projected(folder, delivered(5, submitted(), job_id=ids[-1]))
    projected(folder, delivered(6, ended(), job_id=ids[0]))
    assert folder.fold([delivered(7, ended(), job_id=ids[1])]).unknown == {ids[1]: 7}


def test_a_large_job_is_loaded_instead_of_remembered() -> None:
    folder = Folder()
    large = replace(submitted(), container_image="x" * (LARGE + 1))
    projected(folder, delivered(1, large), delivered(2, submitted(), job_id=OTHER))
    changes = folder.fold([delivered(3, started()), delivered(4, started(), job_id=OTHER)])
    assert (changes.unknown, [known.job.job_id for known in changes.folded]) == ({JOB: 3}, [OTHER])
