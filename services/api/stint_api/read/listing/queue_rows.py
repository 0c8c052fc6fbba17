"""What the table of views knows of queues: who waits, who runs, and how many ended. See `table.py` for its rules."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from stint.core.job import ACTIVE, State
from stint.core.view import JobView
from stint_api.read.listing.query import STATES, microseconds
from stint_api.read.listing.schema import StoredJob
from stint_api.read.listing.sql import MemoryTable, lists

WAITING_SHOWN: Final = 100
"""Jobs of a queue whose ids are shown in order."""

QUEUED: Final = STATES.index(State.QUEUED)
_SUCCESS: Final = STATES.index(State.SUCCESS)
ACTIVE_STATES: Final = ", ".join(str(STATES.index(state)) for state in STATES if state in ACTIVE)
THIS_QUEUE: Final = "queue = (SELECT number FROM queue WHERE name = :qname)"
_decoder: Final = msgspec.json.Decoder(StoredJob)

INDEXES: Final = f"""
CREATE INDEX waiting ON job (queue, place, id, submitted) WHERE status = {QUEUED};
CREATE INDEX active ON job (queue) WHERE status IN ({ACTIVE_STATES});
CREATE INDEX done ON job (queue, expires, status) WHERE expires IS NOT NULL;
"""
"""Those that the questions below need."""


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
        one = f"AND {THIS_QUEUE}" if qname is not None else ""
        values = {"qname": qname, "after": microseconds(ended_since) + self._retention}

        def by_queue(columns: str, source: str) -> dict[int, list[Any]]:
            return {number: rest for number, *rest in lists(self._db, f"queue, {columns}", source, values)}

        waiting = by_queue(
            "jobs, oldest",
            f"""SELECT queue, count(*) AS jobs, min(submitted) AS oldest
            FROM job INDEXED BY waiting WHERE status = {QUEUED} {one} GROUP BY queue""",
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
        one = f"AND {THIS_QUEUE}" if qname is not None else ""
        source = f"SELECT queue, view FROM job INDEXED BY active WHERE status IN ({ACTIVE_STATES}) {one}"
        found = lists(self._db, "queue, view", source, {"qname": qname})
        return {number: _decoder.decode(view) for number, view in found}

    def head(self, qname: str) -> JobView | None:
        """The queue's job that a runner has, None if there is none."""
        return next(iter(self._heads(qname).values()), None)

    def depths(self) -> Sequence[tuple[str, int]]:
        """The queues with jobs that wait, and how many each has."""
        source = f"""SELECT name, sum(jobs) AS waiting FROM tally JOIN queue ON number = tally.queue
            WHERE status = {QUEUED} AND jobs > 0 GROUP BY number"""
        return [(name, jobs) for name, jobs in lists(self._db, "name, waiting", source, {})]

    def waiting(self, qname: str) -> Sequence[str]:
        """The ids of the first jobs that wait in a queue, in order."""
        source = f"""SELECT id FROM job INDEXED BY waiting WHERE status = {QUEUED} AND {THIS_QUEUE}
            ORDER BY place, id LIMIT {WAITING_SHOWN}"""
        return [job_id for (job_id,) in lists(self._db, "lower(hex(id))", source, {"qname": qname})]

    def ahead(self, qname: str, places: Sequence[int]) -> Sequence[int]:
        """How many jobs wait in a queue before each of these places, which are in order."""
        counts, low, before = [], 0, 0
        for place in places:
            source = f"""SELECT count(*) AS jobs FROM job INDEXED BY waiting
                WHERE status = {QUEUED} AND {THIS_QUEUE} AND place >= :low AND place < :place"""
            before += lists(self._db, "jobs", source, {"qname": qname, "low": low, "place": place})[0][0]
            low = place
            counts.append(before)
        return counts
