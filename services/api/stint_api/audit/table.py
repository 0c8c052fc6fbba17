"""What the audit has of the log, in SQLite in memory: actions, and the secrets that jobs got.

Each question is one step of SQLite, as in `read.table`: between two rows a thread can wait for its turn.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final, NamedTuple

from stint.core.audit.operations import OPERATIONS
from stint.core.audit.signature import KeyOwner
from stint.core.audit.trail import DONE
from stint.core.events import NAME_LENGTH, Record, Writer
from stint.core.names.ids import BAD_QUEUE_TOKEN
from stint.core.names.subjects import EventAddress
from stint.core.view import parse_time
from stint_api.audit import secrets
from stint_api.audit.secrets import NEWEST, OF_ONE, SecretRows
from stint_api.read.listing.query import microseconds
from stint_api.read.listing.sql import lists, marks

NOBODY: Final = KeyOwner(owner="")
"""Whose a key is that no login has named."""

_TABLES: Final = """
CREATE TABLE action (
    sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, token TEXT NOT NULL, job TEXT NOT NULL,
    who TEXT NOT NULL, entity TEXT NOT NULL, accessor TEXT NOT NULL, nats_user TEXT NOT NULL, address TEXT NOT NULL,
    signer TEXT NOT NULL, signer_who TEXT NOT NULL, signer_entity TEXT NOT NULL, signer_accessor TEXT NOT NULL
);
CREATE INDEX by_queue ON action (token, sequence);
"""

_NAMES: Final = (
    *("who", "entity", "accessor", "nats_user"),
    *("signer", "signer_who", "signer_entity", "signer_accessor"),
)


class Entry(NamedTuple):
    """An event that somebody caused.

    Attributes:
        sequence: in EVENTS.
        at: when EVENTS stored it, in microseconds since 1970.
        token: of the queue, `FLEET_TOKEN` for what is done to a runner.
        job: the job's id, or that of the operation.
        who, entity, accessor, nats_user, address: who caused it, as it says.
        signer: the public nkey that its signature names, which is not verified; "" if it has none.
        signer_who, signer_entity, signer_accessor: of the token with which this key was made known, likewise.
    """

    sequence: int
    at: int
    kind: str
    token: str
    job: str
    who: str
    entity: str
    accessor: str
    nats_user: str
    address: str
    signer: str
    signer_who: str
    signer_entity: str
    signer_accessor: str

    @property
    def is_operation(self) -> bool:
        """Whether it was done to a queue or a runner, and not to a job."""
        return self.kind in OPERATIONS

    @property
    def writer(self) -> Writer:
        """Who has written it, as it says."""
        return Writer(self.who, self.entity, self.accessor, self.nats_user)

    @property
    def place(self) -> EventAddress:
        """Of its event."""
        return EventAddress(self.kind, self.token, self.job)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedEntries:
    """Which actions, the newest first: in a queue, since a time (microseconds), by somebody, behind a sequence.

    `who` is a display name, an entity, an accessor or a NATS user: of the event's writer, or of who has signed it.
    """

    token: str | None = None
    since: int | None = None
    who: str | None = None
    behind: int = NEWEST


class AuditTable(SecretRows):
    """The actions and the secrets in the events up to `sequence`."""

    def __init__(self, sequence: int = 0) -> None:
        super().__init__(_TABLES + secrets.TABLES)
        self.sequence = sequence

    def apply(self, records: Sequence[Record], owners: Mapping[str, KeyOwner]) -> None:
        """Take further events. Safe to repeat. `owners` are those of the keys that have signed."""
        self.put_secrets(records)
        if rows := list(_entries(records, owners)):
            one = f"({marks('?', Entry._fields)})"
            self._db.execute(f"INSERT OR REPLACE INTO action VALUES {marks(one, rows)}", [*chain.from_iterable(rows)])

    def forget(self, through: int) -> None:
        """Forget the events up to this sequence."""
        self._db.execute("DELETE FROM action WHERE sequence <= ?", (through,))
        self._db.execute("DELETE FROM given WHERE number < ?", ((through + 1) * OF_ONE,))

    def remove(self, sequences: Sequence[int]) -> None:
        """Forget single events."""
        for one in sequences:
            self._db.execute("DELETE FROM action WHERE sequence = ?", (one,))
            self._db.execute("DELETE FROM given WHERE number >= ? AND number < ?", (one * OF_ONE, (one + 1) * OF_ONE))

    def find(self, wanted: WantedEntries, limit: int) -> Sequence[Entry]:
        """The next of the actions that are wanted."""
        conditions = ["sequence < :behind"]
        if wanted.token is not None:
            conditions.append("token = :token")
        if wanted.since is not None:
            conditions.append("at >= :since")
        if wanted.who is not None:
            conditions.append(f":who IN ({', '.join(_NAMES)})")
        rows = f"SELECT * FROM action WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT :limit"
        found = lists(self._db, ", ".join(Entry._fields), rows, {**asdict(wanted), "limit": limit})
        return [Entry(*row) for row in found]


def _entries(records: Iterable[Record], owners: Mapping[str, KeyOwner]) -> Iterator[Entry]:
    for record in records:
        event = record.event
        if event is None or record.kind not in DONE or record.token == BAD_QUEUE_TOKEN:
            continue
        owner = owners.get(record.signer, NOBODY)
        yield Entry(
            sequence=record.sequence,
            at=microseconds(parse_time(record.time)),
            kind=record.kind,
            token=record.token,
            job=record.job_id,
            who=event.by[:NAME_LENGTH],
            entity=event.by_entity[:NAME_LENGTH],
            accessor=event.by_accessor[:NAME_LENGTH],
            nats_user=event.by_nats_user[:NAME_LENGTH],
            address=event.by_address[:NAME_LENGTH],
            signer=record.signer,
            signer_who=owner.who,
            signer_entity=owner.entity,
            signer_accessor=owner.accessor,
        )
