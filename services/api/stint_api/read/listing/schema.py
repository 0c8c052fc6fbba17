"""The table of views in SQL: its columns, its indexes, and what triggers keep: counts, and which texts are left.

Texts that many jobs share have numbers, so that a search looks at each of them once and not at each job. They are the
image's name, who submitted the job, and the words of its reason and error.
"""

from typing import Final

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


def contains(name: str) -> str:
    """The condition that a job's text contains the parameter of the same name."""
    return f"{name} IN (SELECT number FROM {name}_text WHERE instr(text, :{name}))"


def equals(name: str) -> str:
    """The condition that it is equal to it."""
    return f"{name} = (SELECT number FROM {name}_text WHERE text = :{name})"
