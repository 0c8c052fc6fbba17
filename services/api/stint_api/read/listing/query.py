"""What lists ask for and get, and how the questions are written in SQL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from stint.core.job import State
from stint.core.view import JobView, parse_time

STATES: Final = tuple(State)
"""The table has a state's place in here."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
ID_DIGITS: Final = 24
_PART_OF_ID: Final = "(id BETWEEN :first_id AND :last_id OR reversed BETWEEN :first_reversed AND :last_reversed)"


class Place(NamedTuple):
    """Where a job stands in every list: by its submission in microseconds since 1970, then by its id."""

    submitted: int
    job_id: str

    @classmethod
    def of(cls, job: JobView) -> "Place":
        """Where the next page begins, if this is the last job of one."""
        return cls(microseconds(parse_time(job.submitted)), job.job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs a list shows: the filters of `stint_api.routes.parameters.JobQuery`, of the same names."""

    qname: str | None = None
    status: State | None = None
    held: bool | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    id: str | None = None
    image: str | None = None
    who: str | None = None
    q: str | None = None


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
    """A part of a list: of which jobs, in which queues, how many to skip and to show, and behind which place.

    With `counted` it is also counted how many there are with each status, whichever status is wanted.
    """

    wanted: Wanted = Wanted()
    queues: Queues | None = None
    skip: int = 0
    limit: int
    behind: Place | None = None
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The jobs of a page, how many the whole list has, and the last one's place if others come after it."""

    jobs: Sequence[JobView]
    total: int
    next: Place | None
    counts: Mapping[State, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many jobs can be seen, queues with open jobs, held jobs, and views that cannot be read."""

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
    """The values of all parameters that the conditions below name: those of `Wanted` and `Queues`, and some more."""
    wanted, behind = asdict(page.wanted), page.behind
    return {
        **wanted,
        **{name: microseconds(moment) for name, moment in wanted.items() if isinstance(moment, datetime)},
        **(asdict(page.queues) if page.queues else {}),
        **_of_id(page.wanted.id or ""),
        "status": STATES.index(page.wanted.status) if page.wanted.status else None,
        "words": page.wanted.q.casefold() if page.wanted.q else None,
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


def in_rows(page: Page) -> Sequence[str]:
    """Conditions on what only jobs have."""
    wanted = page.wanted
    conditions = {
        "submitted > :submitted_after": wanted.submitted_after,
        "submitted < :submitted_before": wanted.submitted_before,
        "submitted >= :since": wanted.since,
        "submitted < :until": wanted.until,
        _PART_OF_ID: wanted.id,
        f"image IN {_texts('image', 'instr(text, :image)')}": wanted.image,
        f"who = {_texts('who', 'text = :who')}": wanted.who,
        f"words IN {_texts('words', 'instr(text, :words)')}": wanted.q,
    }
    return [condition for condition, value in conditions.items() if value is not None]


def _texts(column: str, condition: str) -> str:
    return f"(SELECT number FROM {column}_text WHERE {condition})"


def _of_id(part: str) -> Mapping[str, object]:
    """The first and the last id that begin with this part; and those that end with it, reversed."""
    return {
        f"{which}_{kind}": bytes.fromhex(digits.ljust(ID_DIGITS, fill))
        for kind, digits in (("id", part), ("reversed", part[::-1]))
        for which, fill in (("first", "0"), ("last", "f"))
    }


def where(*conditions: str) -> str:
    """The clause with all of these conditions."""
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
