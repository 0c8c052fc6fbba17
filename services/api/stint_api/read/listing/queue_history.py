"""A queue's last hour, minute by minute, from the jobs that the table still has. See `table.py` for its rules."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

from stint.core.job import State
from stint.core.view import NEVER, JobView, parse_time
from stint_api.read.listing.query import MICROSECOND, STATES, microseconds
from stint_api.read.listing.queue_rows import ACTIVE_STATES, QUEUED, THIS_QUEUE
from stint_api.read.listing.sql import lists

MINUTE: Final = timedelta(minutes=1)
MINUTES: Final = 60

_SUCCESS: Final = STATES.index(State.SUCCESS)
_TIMES: Final = [JobView.__struct_fields__.index(name) for name in ("submitted", "started", "ended")]
"""Where the table's form of a view has them."""


class Stay(NamedTuple):
    """The way of a job that does not wait any more. `ended` is None if it has not ended.

    Attributes:
        left: when it stopped waiting: it was claimed, or it ended unclaimed.
    """

    submitted: datetime
    left: datetime
    ended: datetime | None
    claimed: bool
    failed: bool


class Minutes(NamedTuple):
    """Figures of each minute, as `stint_api.routes.models.fleet.LastHourBody` says."""

    since: datetime
    depth: Sequence[int | None]
    busy: Sequence[float | None]
    longest_wait: Sequence[float | None]
    ended: Sequence[int | None]
    failed: Sequence[int | None]


def first_minute(now: datetime) -> datetime:
    """When the first of the minutes began, of which the last one contains `now`."""
    return now.replace(second=0, microsecond=0) - (MINUTES - 1) * MINUTE


def submissions(db: sqlite3.Connection, qname: str, since: datetime) -> list[tuple[int, int]]:
    """Of the jobs that wait: in which minute they came, 0 also for earlier ones, and how many."""
    source = f"""SELECT (max(submitted, :since) - :since) / {MINUTE // MICROSECOND} AS minute, count(*) AS jobs
        FROM job INDEXED BY waiting WHERE status = {QUEUED} AND {THIS_QUEUE} GROUP BY minute"""
    found = lists(db, "minute, jobs", source, {"qname": qname, "since": microseconds(since)})
    return [(minute, jobs) for minute, jobs in found]


def stays(db: sqlite3.Connection, qname: str, expires_from: int) -> list[Stay]:
    """The jobs of a queue that do not wait any more. Of those that ended, those that expire from that time on."""
    columns = ", ".join(f"json_extract(view, '$[{place}]')" for place in _TIMES)
    source = f"""SELECT view, status FROM job INDEXED BY done WHERE expires >= :from AND {THIS_QUEUE}
        UNION ALL SELECT view, status FROM job INDEXED BY active WHERE status IN ({ACTIVE_STATES}) AND {THIS_QUEUE}"""
    found = lists(db, f"{columns}, status", source, {"qname": qname, "from": expires_from})
    return [_stay(*row) for row in found]


def _stay(submitted: str, started: str, ended: str, status: int) -> Stay:
    came = parse_time(submitted)
    claimed = None if started == NEVER else parse_time(started)
    over = None if ended == NEVER else parse_time(ended)
    failed = over is not None and status != _SUCCESS
    left = max(came, claimed or over or came)  # a clock that was set back may say that it left before it came
    return Stay(came, left, over, claimed is not None, failed)


def minutes(
    waiting: Iterable[tuple[int, int]], jobs: Iterable[Stay], now: datetime, *, known_since: datetime
) -> Minutes:
    """The last hour, of what the two functions above gave. Minutes that began before `known_since` are not known."""
    since = first_minute(now)
    change, busy = [0] * MINUTES, [0.0] * MINUTES
    waits: list[float | None] = [None] * MINUTES
    ended, failed = [0] * MINUTES, [0] * MINUTES
    for minute, count in waiting:
        change[min(MINUTES - 1, minute)] += count
    for job in jobs:
        change[max(0, _minute(job.submitted, since))] += 1
        left = _minute(job.left, since)
        change[max(0, left)] -= 1
        if job.claimed:
            _add_time(busy, since, job.left, job.ended or now)
            if left >= 0:
                waits[left] = max(waits[left] or 0.0, (job.left - job.submitted).total_seconds())
        if job.ended is not None and (end := _minute(job.ended, since)) >= 0:
            ended[end] += 1
            failed[end] += job.failed
    unknown = sum(since + number * MINUTE < known_since for number in range(MINUTES))
    columns = (list(accumulate(change)), [round(seconds, 3) for seconds in busy], waits, ended, failed)
    return Minutes(since, *([None] * unknown + [*column[unknown:]] for column in columns))


def _minute(moment: datetime, since: datetime) -> int:
    """Which minute it is in, below 0 before the first. What another clock has later than now is in the last."""
    return min(MINUTES - 1, (moment - since) // MINUTE)


def _add_time(busy: list[float], since: datetime, begin: datetime, end: datetime) -> None:
    """Add the seconds between two moments to the minutes in which they are."""
    for number in range(max(0, _minute(begin, since)), _minute(end, since) + 1):
        minute = since + number * MINUTE
        busy[number] += max(0.0, (min(end, minute + MINUTE) - max(begin, minute)).total_seconds())
