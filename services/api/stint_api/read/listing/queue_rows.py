"""What the table of views knows of queues: who waits, who runs, how many ended, and their last hour. See `table.py`."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from stint.core.job import ACTIVE, State
from stint.core.view import NEVER, JobView, parse_time
from stint_api.read.listing.query import MICROSECOND, STATES, microseconds
from stint_api.read.listing.schema import StoredJob
from stint_api.read.listing.sql import MemoryTable, lists

WAITING_SHOWN: Final = 100
"""Jobs of a queue whose ids are shown in order."""

_QUEUED: Final = STATES.index(State.QUEUED)
_SUCCESS: Final = STATES.index(State.SUCCESS)
_ACTIVE: Final = ", ".join(str(STATES.index(state)) for state in STATES if state in ACTIVE)
_THIS_QUEUE: Final = "queue = (SELECT number FROM queue WHERE name = :qname)"
_decoder: Final = msgspec.json.Decoder(StoredJob)

INDEXES: Final = f"""
CREATE INDEX waiting ON job (queue, place, id, submitted) WHERE status = {_QUEUED};
CREATE INDEX active ON job (queue) WHERE status IN ({_ACTIVE});
CREATE INDEX done ON job (queue, expires, status) WHERE expires IS NOT NULL;
"""
"""Those that the questions below need."""

MINUTE: Final = timedelta(minutes=1)
MINUTES: Final = 60
_TIMES: Final = [JobView.__struct_fields__.index(name) for name in ("submitted", "started", "ended")]
"""Where the table's form of a view has them."""


class QueueRow(NamedTuple):
    """A queue with jobs that can be seen.

    Attributes:
        oldest: when the one that waits longest was submitted, in microseconds since 1970; 0 if none waits.
        ended, failed: jobs that ended since the time that was asked about, and those of them that did not succeed.
        head: the job that runs, if one does.
    """

    qname: str
    depth: int = 0
    oldest: int = 0
    ended: int = 0
    failed: int = 0
    head: JobView | None = None


class QueueRows(MemoryTable):
    """The questions about queues."""

    _retention: int
    """Microseconds for which ended jobs are shown."""

    def queue_rows(self, ended_since: datetime, qname: str | None = None) -> Sequence[QueueRow]:
        """All queues with jobs, or the one with this name."""
        one = f"AND {_THIS_QUEUE}" if qname is not None else ""
        values = {"qname": qname, "after": microseconds(ended_since) + self._retention}

        def by_queue(columns: str, source: str) -> dict[int, list[Any]]:
            return {number: rest for number, *rest in lists(self._db, f"queue, {columns}", source, values)}

        waiting = by_queue(
            "jobs, oldest",
            f"""SELECT queue, count(*) AS jobs, min(submitted) AS oldest
            FROM job INDEXED BY waiting WHERE status = {_QUEUED} {one} GROUP BY queue""",
        )
        ended = by_queue(
            "jobs, failed",
            f"""SELECT queue, count(*) AS jobs, sum(status != {_SUCCESS}) AS failed
            FROM job INDEXED BY done WHERE expires > :after {one} GROUP BY queue""",
        )
        active = self._heads(qname)
        names = by_queue(
            "name", f"SELECT number AS queue, name FROM queue {'WHERE name = :qname' if qname is not None else ''}"
        )
        found = []
        for number, (name,) in names.items():
            depth, oldest = waiting.get(number, (0, 0))
            count, failed = ended.get(number, (0, 0))
            found.append(QueueRow(name, depth, oldest, count, failed, active.get(number)))
        return found

    def _heads(self, qname: str | None) -> dict[int, JobView]:
        """The jobs that runners have, by the number of their queue: of all queues, or of the one with this name."""
        one = f"AND {_THIS_QUEUE}" if qname is not None else ""
        source = f"SELECT queue, view FROM job INDEXED BY active WHERE status IN ({_ACTIVE}) {one}"
        found = lists(self._db, "queue, view", source, {"qname": qname})
        return {number: _decoder.decode(view) for number, view in found}

    def head(self, qname: str) -> JobView | None:
        """The queue's job that a runner has, None if there is none."""
        return next(iter(self._heads(qname).values()), None)

    def depths(self) -> Sequence[tuple[str, int]]:
        """The queues with jobs that wait, and how many each has."""
        source = f"""SELECT name, sum(jobs) AS waiting FROM tally JOIN queue ON number = tally.queue
            WHERE status = {_QUEUED} AND jobs > 0 GROUP BY number"""
        return [(name, jobs) for name, jobs in lists(self._db, "name, waiting", source, {})]

    def waiting(self, qname: str) -> Sequence[str]:
        """The ids of the first jobs that wait in a queue, in order."""
        source = f"""SELECT id FROM job INDEXED BY waiting WHERE status = {_QUEUED} AND {_THIS_QUEUE}
            ORDER BY place, id LIMIT {WAITING_SHOWN}"""
        return [job_id for (job_id,) in lists(self._db, "lower(hex(id))", source, {"qname": qname})]

    def ahead(self, qname: str, places: Sequence[int]) -> Sequence[int]:
        """How many jobs wait in a queue before each of these places, which are in order."""
        counts, low, before = [], 0, 0
        for place in places:
            source = f"""SELECT count(*) AS jobs FROM job INDEXED BY waiting
                WHERE status = {_QUEUED} AND {_THIS_QUEUE} AND place >= :low AND place < :place"""
            before += lists(self._db, "jobs", source, {"qname": qname, "low": low, "place": place})[0][0]
            low = place
            counts.append(before)
        return counts

    def last_hour(self, qname: str, now: datetime) -> "Minutes":
        """A queue's last hour, minute by minute."""
        since = first_minute(now)
        waiting = submissions(self._db, qname, since)
        jobs = stays(self._db, qname, microseconds(since) + self._retention)
        return minutes(waiting, jobs, now, known_since=now - self._retention * MICROSECOND)


class Stay(NamedTuple):
    """The way of a job that does not wait any more: it was claimed, or ended unclaimed, when it `left`."""

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
        FROM job INDEXED BY waiting WHERE status = {_QUEUED} AND {_THIS_QUEUE} GROUP BY minute"""
    found = lists(db, "minute, jobs", source, {"qname": qname, "since": microseconds(since)})
    return [(minute, jobs) for minute, jobs in found]


def stays(db: sqlite3.Connection, qname: str, expires_from: int) -> list[Stay]:
    """The jobs of a queue that do not wait any more. Of those that ended, those that expire from that time on."""
    columns = ", ".join(f"json_extract(view, '$[{place}]')" for place in _TIMES)
    source = f"""SELECT view, status FROM job INDEXED BY done WHERE expires >= :from AND {_THIS_QUEUE}
        UNION ALL SELECT view, status FROM job INDEXED BY active WHERE status IN ({_ACTIVE}) AND {_THIS_QUEUE}"""
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
    for number in range(max(0, _minute(begin, since)), _minute(end, since) + 1):
        minute = since + number * MINUTE
        busy[number] += max(0.0, (min(end, minute + MINUTE) - max(begin, minute)).total_seconds())
