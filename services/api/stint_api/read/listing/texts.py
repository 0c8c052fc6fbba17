"""Texts that many jobs share, by number, so that a search looks at each of them once and not at each job.

They are the image's name, who submitted the job, and the words of its reason and error; see `table.py` for the rules.
"""

from typing import Final

TEXTS: Final = ("image", "who", "words")
"""Columns of a job; each has a table of its texts."""

TABLES: Final = "".join(
    f"CREATE TABLE {name}_text (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);\n"
    f"CREATE TABLE {name}_left (number INTEGER PRIMARY KEY);\n"
    for name in TEXTS
)
_INDEX: Final = """
CREATE INDEX by_{name} ON job ({name}, queue, status, held) WHERE {name} IS NOT NULL;
DELETE FROM {name}_text WHERE number NOT IN (SELECT {name} FROM job WHERE {name} IS NOT NULL);
CREATE TRIGGER {name}_deleted AFTER DELETE ON job WHEN old.{name} IS NOT NULL BEGIN
    INSERT INTO {name}_left VALUES (old.{name}) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER {name}_changed AFTER UPDATE ON job WHEN old.{name} IS NOT NULL AND old.{name} IS NOT new.{name} BEGIN
    INSERT INTO {name}_left VALUES (old.{name}) ON CONFLICT DO NOTHING;
END;
"""
INDEXES: Final = "".join(_INDEX.format(name=name) for name in TEXTS)
"""Once the table is complete. Texts that a job has left are noted."""
TIDY: Final = tuple(
    statement
    for name in TEXTS
    for statement in (
        f"""DELETE FROM {name}_text WHERE number IN {name}_left
        AND NOT EXISTS (SELECT 1 FROM job WHERE {name} = {name}_text.number)""",
        f"DELETE FROM {name}_left",
    )
)
"""Forgets those that no job has any more: once all changes are applied, because a later one may bring such a job."""


def contains(name: str) -> str:
    """The condition that a job's text contains the parameter of the same name."""
    return f"{name} IN (SELECT number FROM {name}_text WHERE instr(text, :{name}))"


def equals(name: str) -> str:
    """The condition that it is equal to it."""
    return f"{name} = (SELECT number FROM {name}_text WHERE text = :{name})"
