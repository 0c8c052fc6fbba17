"""What lists ask for and get, and how the questions are written in SQL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from stint.core.job import State
from stint.core.view import JobView

STATES: Final = tuple(State)
"""The table has a state's place in here."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


class Place(NamedTuple):
    """Where a job stands in every list: by its submission in microseconds since 1970, then by its id."""

    submitted: int
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs a list shows: those of a queue, with a status, held or not, submitted between two times."""

    qname: str | None = None
    status: State | None = None
    held: bool | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """The queues that a list may show: those with a number up to `through`, without `hidden` or only `shown` ones.

    Both are JSON arrays of numbers, and one of them is None. A queue that is newer than the answer is not shown.
    """

    through: int
    hidden: str | None = None
    shown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list: of which jobs, in which queues, how many to skip and to show, and behind which place."""

    wanted: Wanted = Wanted()
    queues: Queues | None = None
    skip: int = 0
    limit: int
    behind: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The jobs of a page, how many the whole list has, and the last one's place if others come after it."""

    jobs: Sequence[JobView]
    total: int
    next: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many jobs there are.

    Attributes:
        by_status: jobs that can be seen.
        queues: those with jobs that are not over.
        held: jobs whose queue waits for a lost runner or a release.
        unreadable: views that cannot be read, and are left out everywhere.
    """

    by_status: Mapping[State, int]
    queues: int
    held: int
    unreadable: int


def microseconds(moment: datetime) -> int:
    """Since 1970: exact, and as fast to compare as any number."""
    return (moment - _EPOCH) // MICROSECOND


def moment_of(stored: int) -> datetime:
    """The time that `microseconds` stored."""
    return _EPOCH + stored * MICROSECOND


def parameters(page: Page) -> dict[str, object]:
    """The values of all parameters that the conditions below name."""
    wanted, queues, behind = page.wanted, page.queues, page.behind
    return {
        "qname": wanted.qname,
        "status": STATES.index(wanted.status) if wanted.status else None,
        "after": microseconds(wanted.submitted_after) if wanted.submitted_after else None,
        "before": microseconds(wanted.submitted_before) if wanted.submitted_before else None,
        "through": queues.through if queues else None,
        "hidden": queues.hidden if queues else None,
        "shown": queues.shown if queues else None,
        "limit": page.limit + 1,
        "skip": page.skip,
        "behind": behind.submitted if behind else None,
        "behind_id": bytes.fromhex(behind.job_id) if behind else None,
    }


def in_columns(page: Page) -> Iterator[str]:
    """Conditions on the columns that jobs and tallies have. A `+` keeps SQLite from searching by that column."""
    wanted, queues = page.wanted, page.queues
    if wanted.qname is not None:
        yield "queue = (SELECT number FROM queue WHERE name = :qname)"
    if wanted.status is not None:
        yield f"{'+' if wanted.qname is not None else ''}status = :status"
    if wanted.held is not None:
        yield f"held = {wanted.held:d}"
    if queues:
        yield "+queue <= :through"
        if queues.hidden is not None:
            yield "+queue NOT IN (SELECT value FROM json_each(:hidden))"
        if queues.shown is not None:
            yield "+queue IN (SELECT value FROM json_each(:shown))"


def in_time(page: Page) -> Iterator[str]:
    """Conditions on the time of submission."""
    if page.wanted.submitted_after:
        yield "submitted > :after"
    if page.wanted.submitted_before:
        yield "submitted < :before"


def where(*conditions: str) -> str:
    """The clause with all of these conditions."""
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
