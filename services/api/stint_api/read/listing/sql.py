"""What the tables in memory have in common: statements for many rows at a time, and answers in one step of SQLite."""

import sqlite3
from collections.abc import Sized
from typing import Any, Final

import msgspec

SORTED_IN_MEMORY: Final = 128 * 1024
"""KiB that SQLite sorts before it writes to a file on the disk, which may be full. A million jobs need half of it. It
sorts faster so than with all temporary data in memory: 8.1 instead of 10.5 s of CPU for the indexes of so many."""


class MemoryTable:
    """A database in memory. One thread at a time may use it."""

    def __init__(self, script: str) -> None:
        """`script` makes its tables."""
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = -{SORTED_IN_MEMORY}")
        self._db.executescript(script)

    def close(self) -> None:
        """Free its memory."""
        self._db.close()


def as_json(values: Any) -> str:
    """A parameter for SQLite's `json_each`."""
    return msgspec.json.encode(values).decode()


def marks(mark: str, for_each: Sized) -> str:
    """As many placeholders as there are values."""
    return ", ".join([mark] * len(for_each))


def lists(db: sqlite3.Connection, columns: str, source: str, values: Any) -> list[list[Any]]:
    """These columns of the rows of `source`, in one step of SQLite."""
    found = db.execute(f"SELECT json_group_array(json_array({columns})) FROM ({source})", values).fetchone()[0]
    return msgspec.json.decode(found, type=list[list[Any]])
