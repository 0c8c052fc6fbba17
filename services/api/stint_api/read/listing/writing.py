"""Views as rows of the table: how they are written, and how names that no row has any more are forgotten."""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from stint.core.view import NEVER, JobView, parse_time
from stint_api.read.listing.query import STATES, microseconds
from stint_api.read.listing.schema import REPLACE, TEXTS, TIDY
from stint_api.read.listing.sql import lists, marks

AT_ONCE: Final = 64
"""Jobs in one statement: with 500 each takes twice as long, and alone each waits for the thread's turn."""
_JOB_ID: Final = re.compile("[0-9a-f]{24}")
_NAMED: Final = ((2, "queue", "name"), *((8 + place, f"{name}_text", "text") for place, name in enumerate(TEXTS)))
"""Where in a row a name stands that the table has as a number, and the table and column that give it one."""


class StoredJob(JobView, frozen=True, kw_only=True, array_like=True):
    """A view as the table has it: half as long without the names of its fields."""


def row_of(job: JobView, revision: int, retention: int) -> list[Any]:
    """The row of a job, in the order of the table's columns, with names for numbers. `retention` is in microseconds."""
    return [
        bytes.fromhex(job.job_id),
        bytes.fromhex(job.job_id[::-1]),
        job.qname,
        STATES.index(job.status),
        job.held,
        microseconds(parse_time(job.submitted)),
        job.submission,
        None if job.ended == NEVER else microseconds(parse_time(job.ended)) + retention,
        job.container_image or None,
        job.submitted_by or None,
        f"{job.reason} {job.error}".strip().casefold() or None,
        revision,
        msgspec.json.encode(msgspec.structs.astuple(job)).decode(),
    ]


def keys_of(job_ids: Iterable[str]) -> Sequence[bytes]:
    """The keys of the jobs with these ids, without those that are no ids."""
    return [bytes.fromhex(job_id) for job_id in job_ids if _JOB_ID.fullmatch(job_id)]


def put(db: sqlite3.Connection, rows: Sequence[list[Any]]) -> None:
    """Write rows, as `row_of` makes them, in place of those of the same jobs."""
    for column, table, text in _NAMED:
        names = dict.fromkeys(row[column] for row in rows if row[column] is not None)
        numbers = _numbers(db, table, text, [*names])
        for row in rows:
            row[column] = numbers.get(row[column])
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        one = f"({marks('?', some[0])})"
        db.execute(f"INSERT INTO job VALUES {marks(one, some)} {REPLACE}", [*chain.from_iterable(some)])


def remove(db: sqlite3.Connection, job_ids: Iterable[str]) -> None:
    """Remove the rows of these jobs."""
    if keys := keys_of(job_ids):
        db.execute(f"DELETE FROM job WHERE id IN ({marks('?', keys)})", keys)


def tidy(db: sqlite3.Connection) -> None:
    """Forget queues and texts without jobs. Only after all of a page's rows: a later one may have what one has left."""
    for statement in TIDY:
        db.execute(statement)


def _numbers(db: sqlite3.Connection, table: str, text: str, names: Sequence[str]) -> Mapping[str, int]:
    """The number of each of these different names; a new one gets its number now."""
    if not names:
        return {}
    each = marks("(?)", names)
    db.execute(f"INSERT INTO {table} ({text}) VALUES {each} ON CONFLICT DO NOTHING", names)
    return dict(lists(db, f"{text}, number", f"SELECT * FROM {table} WHERE {text} IN (VALUES {each})", names))
