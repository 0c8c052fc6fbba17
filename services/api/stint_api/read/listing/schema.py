"""The table of views in SQL: its columns, its indexes, and the counts that triggers keep."""

from typing import Final

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
"""
REPLACE: Final = """
ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, status = excluded.status, held = excluded.held,
submitted = excluded.submitted, place = excluded.place, expires = excluded.expires, image = excluded.image,
who = excluded.who, words = excluded.words, revision = excluded.revision, view = excluded.view
"""
