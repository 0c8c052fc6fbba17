"""The views as a table: SQLite in memory, with what lists select and sort by in columns of their own.

Whatever could take long is one step of SQLite, during which other threads run: a thread that asks for its turn between
two rows can wait 5 ms for each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import msgspec
import structlog

from stint.core.errors import UndecodableError
from stint.core.job import TERMINAL, State
from stint.core.view import JobView, read_view
from stint.ports import StoredView, StreamState
from stint_api.read.listing import queue_rows
from stint_api.read.listing.feed import Change, changes
from stint_api.read.listing.query import (
    MICROSECOND,
    STATES,
    Counts,
    Found,
    Page,
    Place,
    Wanted,
    in_columns,
    in_rows,
    microseconds,
    parameters,
    where,
)
from stint_api.read.listing.queue_rows import QueueRows
from stint_api.read.listing.schema import INDEXES, TABLES, StoredJob, keys_of, put, remove, row_of, tidy
from stint_api.read.listing.sql import lists, marks

log = structlog.get_logger()

FEW: Final = 1000
"""Jobs that can be found by their queues and sorted in less time than others are passed by."""
_OPEN: Final = ", ".join(str(STATES.index(state)) for state in State if state not in TERMINAL)


class Table(QueueRows):
    """All views. `sequence` is the revision of the last entry that was applied."""

    def __init__(self, retention: timedelta, *, after: int = 0) -> None:
        """Ended jobs are shown for `retention`. The first queue gets the number behind `after`."""
        super().__init__(TABLES)
        self._db.execute("INSERT INTO sqlite_sequence VALUES ('queue', ?)", (after,))
        self.sequence = 0
        self._retention = retention // MICROSECOND
        self._unreadable: dict[str, int] = {}
        self._expired: dict[str, tuple[str, int]] = {}
        self._complete = False

    def complete(self) -> None:
        """Make the indexes. At the end that takes a third less than to keep them; only then can questions be asked."""
        self._db.executescript(INDEXES + queue_rows.INDEXES)
        self._complete = True

    def apply(self, entries: Sequence[StoredView]) -> Sequence[Change]:
        """Apply changes, and return them once the table is complete: one of each job.

        A view that cannot be read is left out, and so is the one before it.
        """
        last = {stored.job_id: stored for stored in entries}
        views = {job_id: self._read(stored) for job_id, stored in last.items()}
        before = self._known(last) if self._complete else None
        self._db.execute("BEGIN")
        remove(self._db, (job_id for job_id, job in views.items() if job is None))
        put(
            self._db,
            [row_of(job, last[job_id].revision, self._retention) for job_id, job in views.items() if job is not None],
        )
        if self._complete:  # until then nothing notes what is left, and `complete` looks at everything
            tidy(self._db)
        self._db.execute("COMMIT")
        self.sequence = max(self.sequence, *(stored.revision for stored in entries))
        return [] if before is None else sorted(changes(last, views, before), key=attrgetter("revision"))

    def _known(self, job_ids: Iterable[str]) -> Mapping[str, tuple[str, int]]:
        """The queue and the status of those of the jobs that are there, or have expired since they were written."""
        keys = keys_of(job_ids)
        source = f"SELECT id, name, status FROM job JOIN queue ON queue = number WHERE id IN ({marks('?', keys)})"
        rows = lists(self._db, "lower(hex(id)), name, status", source, keys)
        known = {job_id: (qname, status) for job_id, qname, status in rows}
        expired = {job_id: self._expired.pop(job_id) for job_id in job_ids if job_id in self._expired}
        return expired | known

    def expire(self, now: datetime) -> None:
        """Forget what nobody may see any more."""
        gone = self._db.execute(
            """DELETE FROM job WHERE expires <= ?
            RETURNING lower(hex(id)), (SELECT name FROM queue WHERE number = queue), status""",
            (microseconds(now),),
        ).fetchall()
        if gone:
            self._expired.update((job_id, (qname, status)) for job_id, qname, status in gone)
            tidy(self._db)

    def is_whole(self, state: StreamState) -> bool:
        """False if views disappeared without a message: the bucket counts from 1 again, or it was purged."""
        revisions = [self._one("SELECT min(revision) FROM job"), *self._unreadable.values()]
        oldest = min((revision for revision in revisions if revision is not None), default=state.first)
        return state.last > self.sequence or (state.last == self.sequence and oldest >= state.first)

    def find(self, page: Page) -> Found:
        """The jobs of a page, as they stand now, the last submitted first."""
        columns, searched, values = [*in_columns(page)], [*in_rows(page)], parameters(page)
        counts = self._counts(page) if page.counted else None
        if counts is None:
            counted = "count(*) FROM job" if searched else "sum(jobs) FROM tally"
            total = self._one(f"SELECT {counted} {where(*columns, *searched)}", values) or 0
        else:
            wanted = page.wanted.status
            total = sum(counts.values()) if wanted is None else counts.get(wanted, 0)
        few = total <= FEW and page.queues is not None and page.queues.shown is not None and not searched
        index = "INDEXED BY by_queue" if few else "INDEXED BY by_time" if searched and total > FEW else ""
        columns = [text.replace("+queue IN", "queue IN") for text in columns] if few else columns
        behind = ["(submitted, id) < (:behind, :behind_id)"] if page.behind else []
        rows = f"""SELECT view FROM job {index}
            {where(*columns, *searched, *behind)} ORDER BY submitted DESC, id DESC LIMIT :limit OFFSET :skip"""
        found = self._one(f"SELECT '[' || coalesce(group_concat(view), '') || ']' FROM ({rows})", values)
        jobs = msgspec.json.decode(found, type=list[StoredJob])
        more = len(jobs) > page.limit
        del jobs[page.limit :]
        return Found(jobs=jobs, total=total, next=Place.of(jobs[-1]) if more else None, counts=counts)

    def _counts(self, page: Page) -> Mapping[State, int]:
        """How many jobs of the whole list have each status, whichever is wanted. In one pass, without sorting."""
        page = replace(page, wanted=replace(page.wanted, status=None))
        searched = [*in_rows(page)]
        one, source = ("count(*)", "job") if searched else ("sum(jobs)", "tally")
        columns = ", ".join(f"{one} FILTER (WHERE status = {number})" for number in range(len(STATES)))
        found = self._one(
            f"SELECT json_array({columns}) FROM {source} {where(*in_columns(page), *searched)}", parameters(page)
        )
        return {state: jobs for state, jobs in zip(STATES, msgspec.json.decode(found), strict=True) if jobs}

    def queues(self, after: int) -> Sequence[tuple[int, str]]:
        """The number and name of each queue with a number above `after`, in order.

        A queue has one number for as long as it has jobs that can be seen. No number is used again.
        """
        return self._queues("number > ?", (after,))

    def queues_with(self, wanted: Wanted) -> Sequence[tuple[int, str]]:
        """The same of each queue with jobs that are wanted, whenever they were submitted."""
        page = Page(wanted=wanted, limit=0)
        return self._queues(f"number IN (SELECT queue FROM tally {where(*in_columns(page))})", parameters(page))

    def _queues(self, condition: str, values: Any) -> Sequence[tuple[int, str]]:
        rows = lists(self._db, "number, name", f"SELECT * FROM queue WHERE {condition}", values)
        return sorted((number, name) for number, name in rows)

    def counts(self) -> Counts:
        """As they stand now."""
        by_status: Counter[State] = Counter()
        for status, jobs in self._db.execute("SELECT status, sum(jobs) FROM tally GROUP BY status").fetchall():
            by_status[STATES[status]] = jobs
        return Counts(
            by_status=by_status,
            queues=self._one(f"SELECT count(DISTINCT queue) FROM tally WHERE status IN ({_OPEN})"),
            held=self._one("SELECT sum(jobs) FROM tally WHERE held = 1") or 0,
            unreadable=len(self._unreadable),
        )

    def _read(self, stored: StoredView) -> JobView | None:
        self._unreadable.pop(stored.job_id, None)
        if stored.value is None:
            return None
        try:
            return read_view(stored.job_id, stored.value)
        except UndecodableError as error:
            self._unreadable[stored.job_id] = stored.revision
            log.warning("view cannot be read, left out", job=stored.job_id, error=error.sentence)
            return None

    def _one(self, sql: str, values: Any = ()) -> Any:
        return self._db.execute(sql, values).fetchone()[0]
