"""Writes rows of the table, and forgets the names that no row has any more."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from stint_api.read.listing import texts
from stint_api.read.listing.rows import NAMED, keys_of
from stint_api.read.listing.schema import REPLACE
from stint_api.read.listing.sql import lists, marks

AT_ONCE: Final = 64
"""Jobs in one statement: with 500 each takes twice as long, and alone each waits for the thread's turn."""

_TIDY: Final = ("DELETE FROM tally WHERE jobs = 0", *texts.TIDY)


def put(db: sqlite3.Connection, rows: Sequence[list[Any]]) -> None:
    """Write rows, as `row_of` makes them, in place of those of the same jobs."""
    for column, table, text in NAMED:
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
    for statement in _TIDY:
        db.execute(statement)


def _numbers(db: sqlite3.Connection, table: str, text: str, names: Sequence[str]) -> Mapping[str, int]:
    """The number of each of these different names; a new one gets its number now."""
    if not names:
        return {}
    each = marks("(?)", names)
    db.execute(f"INSERT INTO {table} ({text}) VALUES {each} ON CONFLICT DO NOTHING", names)
    return dict(lists(db, f"{text}, number", f"SELECT * FROM {table} WHERE {text} IN (VALUES {each})", names))
