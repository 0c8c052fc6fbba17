"""Which jobs got which secrets, as a table: names and versions, never values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Final, NamedTuple

from stint.core.audit.trail import path_of
from stint.core.events import Launched, Record
from stint.core.names.ids import BAD_QUEUE_TOKEN
from stint.core.view import parse_time
from stint_api.read.listing.query import microseconds
from stint_api.read.listing.sql import MemoryTable, as_json, lists

OF_ONE: Final = 128
"""Secrets of one job that are kept: more than `launched` names."""
KEPT: Final = 1_000_000
"""Rows, of some 100 bytes: jobs may get many secrets."""
NEWEST: Final = 2**63 - 1
"""Behind every place, and the largest number that SQLite can store."""

TABLES: Final = """
CREATE TABLE secret (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL);
CREATE INDEX by_path ON secret (path);
CREATE TABLE given (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, token TEXT NOT NULL, job TEXT NOT NULL, secret INTEGER NOT NULL,
    version INTEGER
);
CREATE INDEX by_secret ON given (secret, number);
"""


class Given(NamedTuple):
    """A secret that a job got.

    Attributes:
        number: its place: the event's sequence times `OF_ONE`, and its own number in the event.
        at: when EVENTS stored it, in microseconds since 1970.
        name: the secret, as `path.key`.
        version: of KV v2, None from another engine.
    """

    number: int
    at: int
    token: str
    job: str
    name: str
    version: int | None

    @property
    def sequence(self) -> int:
        """Of the event."""
        return self.number // OF_ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSecret:
    """Which rows, the newest first: of a secret (`path.key`) or of all keys of a path.

    With `version` only this one; with `outdated` only older ones than `newest`, or without it only the others.
    """

    secret: str
    version: int | None = None
    outdated: bool | None = None
    behind: int = NEWEST


class SecretRows(MemoryTable):
    """Writes which secrets jobs got, and the questions about them."""

    _added: int = 0

    def put_secrets(self, records: Iterable[Record]) -> None:
        """Take the secrets in further events. Safe to repeat."""
        rows = list(_rows(records))
        if not rows:
            return
        names = dict.fromkeys(row.name for row in rows)
        self._db.execute(_PUT_NAMES, (as_json([(name, path_of(name)) for name in names]),))
        self._db.execute(_PUT_ROWS, (as_json(rows),))
        self._added += len(rows)
        if self._added > KEPT // 10:
            self._trim()

    def _trim(self) -> None:
        self._added = 0
        last = "SELECT number FROM given ORDER BY number DESC LIMIT 1 OFFSET ?"
        self._db.execute(f"DELETE FROM given WHERE number <= ({last})", (KEPT,))
        self._db.execute("DELETE FROM secret WHERE number NOT IN (SELECT secret FROM given)")

    def newest(self, path: str) -> Mapping[str, int | None]:
        """The newest version of a path's secrets that a job got in each queue, by the queue's token."""
        rows = f"SELECT token, max(version) AS newest FROM given WHERE {_OF_PATH} GROUP BY token"
        return dict(lists(self._db, "token, newest", rows, {"path": path}))

    def given(self, wanted: WantedSecret, newest: int | None, tokens: Iterable[str], limit: int) -> Sequence[Given]:
        """The next of the rows that are wanted, in these queues."""
        conditions = [_OF_SECRET, "given.number < :behind", "token IN (SELECT value FROM json_each(:tokens))"]
        if wanted.version is not None:
            conditions.append("version = :version")
        if wanted.outdated is not None:
            conditions.append(f"version {'<' if wanted.outdated else '>='} :newest")
        columns = "given.number, at, token, job, (SELECT name FROM secret WHERE number = given.secret) AS name, version"
        rows = f"SELECT {columns} FROM given WHERE {' AND '.join(conditions)} ORDER BY given.number DESC LIMIT :limit"
        values = {**asdict(wanted), "newest": newest, "tokens": as_json(list(tokens))}
        found = lists(self._db, ", ".join(Given._fields), rows, values | {"limit": limit})
        return [Given(*row) for row in found]


_PUT_NAMES: Final = """
INSERT INTO secret (name, path) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
WHERE true ON CONFLICT DO NOTHING
"""
# Values of their own for so many rows would take SQLite seconds to parse, and could be more than it takes.
_PUT_ROWS: Final = """
INSERT OR REPLACE INTO given SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    secret.number, json_extract(value, '$[5]')
FROM json_each(?) JOIN secret ON secret.name = json_extract(value, '$[4]')
"""
_OF_PATH: Final = "secret IN (SELECT number FROM secret WHERE path = :path)"
_OF_SECRET: Final = "secret IN (SELECT number FROM secret WHERE name = :secret OR path = :secret)"


def _rows(records: Iterable[Record]) -> Iterator[Given]:
    for record in records:
        if not isinstance(record.event, Launched) or record.token == BAD_QUEUE_TOKEN:
            continue
        at = microseconds(parse_time(record.time))
        for number, (name, version) in enumerate(islice(record.event.secrets.items(), OF_ONE)):
            if version is None or 0 <= version <= NEWEST:  # others SQLite could not store, and no engine has them
                place = record.sequence * OF_ONE + number
                yield Given(place, at, record.token, record.job_id, name, version)
