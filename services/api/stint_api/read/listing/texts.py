"""Texts that many jobs share, by number, so that a search looks at each of them once and not at each job.

They are the image's name, who submitted the job, and the words of its reason and error; see `table.py` for the rules.
"""

from typing import Final

TEXTS: Final = ("image", "who", "words")
"""Columns of a job; each has a table of its texts."""

TABLES: Final = "".join(
    f"CREATE TABLE {name}_text (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);\n" for name in TEXTS
)
_INDEX: Final = """
CREATE INDEX by_{name} ON job ({name}, queue, status, held) WHERE {name} IS NOT NULL;
DELETE FROM {name}_text WHERE number NOT IN (SELECT {name} FROM job WHERE {name} IS NOT NULL);
CREATE TRIGGER {name}_deleted AFTER DELETE ON job
WHEN NOT EXISTS (SELECT 1 FROM job WHERE {name} = old.{name}) BEGIN
    DELETE FROM {name}_text WHERE number = old.{name};
END;
CREATE TRIGGER {name}_changed AFTER UPDATE ON job
WHEN old.{name} IS NOT new.{name} AND NOT EXISTS (SELECT 1 FROM job WHERE {name} = old.{name}) BEGIN
    DELETE FROM {name}_text WHERE number = old.{name};
END;
"""
INDEXES: Final = "".join(_INDEX.format(name=name) for name in TEXTS)
"""Once the table is complete; a text that no job has any more is forgotten."""


def number_of(name: str) -> str:
    """The number of a text that is there, in a row that is inserted; NULL for no text."""
    return f"(SELECT number FROM {name}_text WHERE text = ?)"


def contains(name: str) -> str:
    """The condition that a job's text contains the parameter of the same name."""
    return f"{name} IN (SELECT number FROM {name}_text WHERE instr(text, :{name}))"


def equals(name: str) -> str:
    """The condition that it is equal to it."""
    return f"{name} = (SELECT number FROM {name}_text WHERE text = :{name})"
