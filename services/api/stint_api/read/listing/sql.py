"""What the tables in memory have in common: statements for many rows at a time, and answers in one step of SQLite."""

import sqlite3
from collections.abc import Sized
from typing import Any

import msgspec


def marks(mark: str, for_each: Sized) -> str:
    """As many placeholders as there are values."""
    return ", ".join([mark] * len(for_each))


def lists(db: sqlite3.Connection, columns: str, source: str, values: Any) -> list[list[Any]]:
    """These columns of the rows of `source`, in one step of SQLite."""
    found = db.execute(f"SELECT json_group_array(json_array({columns})) FROM ({source})", values).fetchone()[0]
    return msgspec.json.decode(found, type=list[list[Any]])
