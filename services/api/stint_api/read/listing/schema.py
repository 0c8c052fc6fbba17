"""The table of views in SQL, how views are written as its rows, and how names that no row has any more are forgotten.

Texts that many jobs share have numbers, so that a search looks at each of them once and not at each job. They are the
image's name, who submitted the job, and the words of its reason and error. Triggers keep counts, and note texts that a
job has left.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from stint.core.view import NEVER, JobView, parse_time
from stint_api.read.listing.query import STATES, microseconds
from stint_api.read.listing.sql import lists, marks

TEXTS: Final = ("image", "who", "words")
"""Columns of a job; each has a table of its texts."""

TABLES: Final = """
CREATE TABLE queue (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE job (
    id BLOB NOT NULL UNIQUE,
    reversed BLOB NOT NULL,
    queue INTEGER NOT NULL,
    status INTEGER NOT NULL,
    held INTEGER NOT NULL,
    submitted INTEGER NOT NULL,
    place INTEGER NOT NULL,
    expires INTEGER,
    image INTEGER,
    who INTEGER,
    words INTEGER,
    revision INTEGER NOT NULL,
    view TEXT NOT NULL
);
CREATE TABLE tally (
    queue INTEGER, status INTEGER, held INTEGER, jobs INTEGER NOT NULL, PRIMARY KEY (queue, status, held)
) WITHOUT ROWID;
""" + "".join(
    f"CREATE TABLE {name}_text (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);\n"
    f"CREATE TABLE {name}_left (number INTEGER PRIMARY KEY);\n"
    for name in TEXTS
)
_OF_TEXT: Final = """
CREATE INDEX by_{name} ON job ({name}, queue, status, held) WHERE {name} IS NOT NULL;
DELETE FROM {name}_text WHERE number NOT IN (SELECT {name} FROM job WHERE {name} IS NOT NULL);
CREATE TRIGGER {name}_deleted AFTER DELETE ON job WHEN old.{name} IS NOT NULL BEGIN
    INSERT INTO {name}_left VALUES (old.{name}) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER {name}_changed AFTER UPDATE ON job WHEN old.{name} IS NOT NULL AND old.{name} IS NOT new.{name} BEGIN
    INSERT INTO {name}_left VALUES (old.{name}) ON CONFLICT DO NOTHING;
END;
"""
INDEXES: Final = """
CREATE INDEX by_time ON job (submitted, id, queue, status, held);
CREATE INDEX by_queue ON job (queue, submitted, id, status, held);
CREATE INDEX by_status ON job (status, submitted, id, queue, held);
CREATE INDEX by_hold ON job (submitted, id, queue, status) WHERE held = 1;
CREATE INDEX by_end_of_id ON job (reversed);
CREATE INDEX by_expiry ON job (expires) WHERE expires IS NOT NULL;
CREATE INDEX by_revision ON job (revision);
CREATE INDEX empty ON tally (jobs) WHERE jobs = 0;

INSERT INTO tally SELECT queue, status, held, count(*) FROM job GROUP BY queue, status, held;
DELETE FROM queue WHERE number NOT IN (SELECT queue FROM tally);
CREATE TRIGGER added AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.queue, new.status, new.held, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER removed AFTER DELETE ON job BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE (queue, status, held) = (old.queue, old.status, old.held);
END;
CREATE TRIGGER moved AFTER UPDATE ON job
WHEN (old.queue, old.status, old.held) IS NOT (new.queue, new.status, new.held) BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE (queue, status, held) = (old.queue, old.status, old.held);
    INSERT INTO tally VALUES (new.queue, new.status, new.held, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER forgotten AFTER DELETE ON tally
WHEN NOT EXISTS (SELECT 1 FROM tally WHERE queue = old.queue) BEGIN
    DELETE FROM queue WHERE number = old.queue;
END;
""" + "".join(_OF_TEXT.format(name=name) for name in TEXTS)
"""Once the table is complete. Texts that a job has left are noted."""
TIDY: Final = (
    "DELETE FROM tally WHERE jobs = 0",
    *(
        f"""DELETE FROM {name}_text WHERE number IN {name}_left
        AND NOT EXISTS (SELECT 1 FROM job WHERE {name} = {name}_text.number)"""
        for name in TEXTS
    ),
    *(f"DELETE FROM {name}_left" for name in TEXTS),
)
"""Forgets what no job has any more: once all changes are applied, because a later one may bring such a job."""
REPLACE: Final = """
ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, status = excluded.status, held = excluded.held,
submitted = excluded.submitted, place = excluded.place, expires = excluded.expires, image = excluded.image,
who = excluded.who, words = excluded.words, revision = excluded.revision, view = excluded.view
"""

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
