"""The index of who did what: what it takes from the log, and finds."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest

from stint.core.audit.operations import AnyOperation, DrainRequested, Paused, address_of, to_operation
from stint.core.audit.signature import KeyOwner
from stint.core.audit.trail import path_of
from stint.core.codec import encode, to_record
from stint.core.errors import BrokerUnavailableError
from stint.core.events import AnyEvent, Record
from stint.core.names.ids import BAD_QUEUE_TOKEN, FLEET_TOKEN, queue_token
from stint.core.names.subjects import EventAddress
from stint.jetstream import FactsPage
from stint.ports import StreamState
from stint_api.audit.index import AuditIndex
from stint_api.audit.secrets import OF_ONE, WantedSecret
from stint_api.audit.table import AuditTable, WantedEntries
from tests.support import events
from tests.support.events import record
from tests.support.waiting import meanwhile, until, until_true

NOW = datetime(2026, 1, 2, tzinfo=UTC)
A, B = queue_token("a"), queue_token("b")


def by(event: AnyEvent, **who: object) -> AnyEvent:
    return msgspec.structs.replace(event, **who)


LOG = [
    record(by(events.submitted(), by="ann", by_entity="e1", by_accessor="acc1", by_address="10.0.0.1"), 1, token=A),
    record(events.started(), 2, token=A),
    record(events.launched(), 3, token=A),
    record(by(events.kill_requested(), by="bob", by_nats_user="UBOB"), 4, token=A),
    record(events.ended(), 5, token=A),
    record(by(events.submitted(), by="ann"), 6, token=B, job_id="1" * 24),
    record(events.submitted(), 7, token=BAD_QUEUE_TOKEN),
    to_record(EventAddress("submitted", A, "2" * 24), b"junk", sequence=8, time="2026-01-02T03:04:08Z"),
    to_record(EventAddress("invented", A, "2" * 24), b"{}", sequence=9, time="2026-01-02T03:04:09Z"),
    record(by(events.deleted(), by="ann"), 10, token=B, job_id="1" * 24),
]


def table_of(*records: Record) -> AuditTable:
    table = AuditTable()
    table.apply(records, {})
    return table


def found(table: AuditTable, limit: int = 100, **wanted: Any) -> list[int]:
    return [entry.sequence for entry in table.find(WantedEntries(**wanted), limit)]


@pytest.mark.parametrize(
    ("wanted", "sequences"),
    [
        ({}, [10, 6, 4, 1]),
        ({"token": A}, [4, 1]),
        ({"token": queue_token("c")}, []),
        ({"who": "ann"}, [10, 6, 1]),
        ({"who": "e1"}, [1]),
        ({"who": "acc1"}, [1]),
        ({"who": "UBOB"}, [4]),
        ({"behind": 6}, [4, 1]),
        ({"limit": 2}, [10, 6]),
        ({"token": A, "who": "ann", "behind": 4}, [1]),
    ],
)
def test_what_is_wanted_is_found_the_newest_first(wanted: dict[str, Any], sequences: list[int]) -> None:
    table = table_of(*LOG)
    assert found(table, **wanted) == sequences
    table.apply(LOG, {})
    assert found(table, **wanted) == sequences, "applied twice"


def test_what_was_done_to_queues_and_runners_is_found_among_the_rest() -> None:
    def operation(event: AnyOperation, token: str, sequence: int) -> Record:
        address = address_of(event, token, "3" * 24)
        return to_operation(address, encode(event), sequence=sequence, time="2026-01-02T03:04:09Z")

    pause = Paused(event_id="1", at="", by="ops", reason="why")
    drain = DrainRequested(event_id="2", at="", by="ops", runner="runner-1")
    junk = to_operation(address_of(pause, A, "4" * 24), b"junk", sequence=13, time="2026-01-02T03:04:09Z")
    table = table_of(*LOG, operation(pause, A, 11), operation(drain, A, 12), junk)
    assert found(table, who="ops") == [12, 11]
    assert found(table, token=A) == [11, 4, 1]
    newest, paused, deleted, *_ = table.find(WantedEntries(), 10)
    assert (newest.token, newest.is_operation, paused.token, deleted.is_operation) == (FLEET_TOKEN, True, A, False)
    assert paused.place == EventAddress("paused", A, "3" * 24)


def test_a_time_selects_what_came_since_and_what_is_forgotten_is_not_found() -> None:
    table = table_of(*LOG)
    at = next(entry.at for entry in table.find(WantedEntries(), 10) if entry.sequence == 4)
    assert found(table, since=at) == [10, 6, 4]
    assert found(table, since=at + 1) == [10, 6]
    table.forget(4)
    table.remove([10])
    assert found(table) == [6]


def test_a_name_of_a_megabyte_is_not_kept() -> None:
    long = dict.fromkeys(("by", "by_entity", "by_accessor", "by_address", "by_nats_user"), "x" * 10**6)
    table = table_of(record(by(events.submitted(), **long), 1, token=A))
    (entry,) = table.find(WantedEntries(), 1)
    assert {*entry[5:10]} == {"x" * 256}


def got(sequence: int, secrets: dict[str, int | None], *, token: str = A) -> Record:
    return record(by(events.launched(), secrets=secrets), sequence, token=token, job_id=f"{sequence:024x}")


PASSWORD, USER, PLAIN = "kv/data/db.password", "kv/data/db.user", "kv1/db.password"
GIVEN = [
    got(1, {PASSWORD: 6}),
    got(2, {PASSWORD: 7, USER: 7}),
    got(3, {PLAIN: None}),
    got(4, {PASSWORD: 6}, token=B),
    got(5, {USER: 8}, token=B),
    got(6, {"kv/data/db2.password": 9}),
    record(events.submitted(), 7, token=A),
]


@pytest.mark.parametrize(
    ("wanted", "tokens", "sequences"),
    [
        ({"secret": PASSWORD}, (A, B), [4, 2, 1]),
        ({"secret": PASSWORD}, (A,), [2, 1]),
        ({"secret": PASSWORD}, (), []),
        ({"secret": "kv/data/db"}, (A, B), [5, 4, 2, 2, 1]),
        ({"secret": "kv/data"}, (A, B), []),
        ({"secret": PASSWORD, "version": 7}, (A, B), [2]),
        ({"secret": PASSWORD, "version": 9}, (A, B), []),
        ({"secret": PASSWORD, "outdated": True}, (A, B), [4, 2, 1]),
        ({"secret": PASSWORD, "outdated": True}, (A,), [1]),
        ({"secret": "kv/data/db", "outdated": False}, (A, B), [5]),
        ({"secret": PLAIN}, (A, B), [3]),
        ({"secret": PLAIN, "outdated": True}, (A, B), []),
        ({"secret": PASSWORD, "behind": 4 * OF_ONE}, (A, B), [2, 1]),
        ({"secret": PASSWORD, "limit": 1}, (A, B), [4]),
        ({"secret": "'; DROP TABLE given"}, (A, B), []),
    ],
)
def test_jobs_are_found_by_their_secrets(wanted: dict[str, Any], tokens: tuple[str, ...], sequences: list[int]) -> None:
    table, limit = AuditTable(), wanted.get("limit", 100)
    for _ in range(2):  # safe to repeat
        table.apply(GIVEN, {})
    which = WantedSecret(**{name: value for name, value in wanted.items() if name != "limit"})
    versions = table.newest(path_of(which.secret))
    newest = max((version or 0 for token, version in versions.items() if token in tokens), default=None)
    assert [row.sequence for row in table.given(which, newest, tokens, limit)] == sequences


def test_what_a_stranger_wrote_does_not_end_the_index() -> None:
    table = AuditTable()
    forged: dict[str, int | None] = {PASSWORD: 2**63, USER: -1, PLAIN: 2**70}
    table.apply([*GIVEN, got(8, {PASSWORD: 9}, token=BAD_QUEUE_TOKEN), got(9, forged)], {})
    assert table.newest("kv/data/db") == {A: 7, B: 8}
    assert table.newest("kv1/db") == {A: None}


def test_secrets_are_forgotten_with_their_events_and_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    table = AuditTable()
    table.apply(GIVEN, {})
    table.forget(1)
    table.remove([4])
    every = WantedSecret(secret=PASSWORD)
    assert [row.sequence for row in table.given(every, 8, (A, B), 10)] == [2]
    assert table.newest("kv/data/db") == {A: 7, B: 8}
    monkeypatch.setattr("stint_api.audit.secrets.KEPT", 20)
    many: dict[str, int | None] = {f"kv/data/many.k{key}": 1 for key in range(100)}
    table.apply([got(number, many) for number in range(10, 500)], {})  # more values than a statement of SQLite takes
    assert len(table.given(WantedSecret(secret="kv/data/many"), 1, (A,), 1000)) == 20
    assert table.given(every, 8, (A, B), 10) == []


class Log:
    """A log of which a test decides what it holds."""

    def __init__(self, records: Sequence[Record], last: int, created: str = "once") -> None:
        self.records, self.last, self.created, self.first = list(records), last, created, 1
        self.away, self.lag = False, 0

    async def state(self) -> StreamState:
        if self.away:
            raise BrokerUnavailableError
        return StreamState(self.created, self.first, self.last)

    async def pages(self, *, after: int) -> AsyncIterator[FactsPage]:
        for one in self.records:
            if after < one.sequence <= self.last - self.lag:
                yield FactsPage(one.sequence, [one])

    async def lacks(self, *, after: int, through: int) -> bool:
        return any(after < one.sequence <= through for one in self.records)


class Owners:
    """Knows whose the key ULOG is."""

    async def read(self, nkeys: Collection[str]) -> Mapping[str, KeyOwner]:
        return {nkey: KeyOwner(owner="", who="ann", entity="e1", accessor="acc1") for nkey in nkeys if nkey == "ULOG"}


@asynccontextmanager
async def following(log: Log, span: int = 100) -> AsyncIterator[AuditIndex]:
    at_once = partial(asyncio.sleep, 0)
    index = AuditIndex(log, Owners(), connected=at_once, span=span, now=lambda: NOW)  # type: ignore[arg-type] # what it uses
    async with meanwhile(index.run()):
        yield index


async def sequences(index: AuditIndex) -> list[int] | None:
    try:
        return [entry.sequence for entry in await index.ask(lambda table: table.find(WantedEntries(), 100))]
    except BrokerUnavailableError:
        return None


async def becomes(index: AuditIndex, wanted: list[int] | None) -> None:
    await until(lambda: sequences(index), lambda found: found == wanted)


async def test_it_follows_the_log_and_begins_again_with_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_api.audit.index.POLL", 0.01)
    log = Log(LOG[:3], 3)
    log.away = True
    async with following(log) as index:
        assert await sequences(index) is None
        log.away = False
        await becomes(index, [1])
        log.records, log.last = LOG, 10
        await becomes(index, [10, 6, 4, 1])
        log.first = 6  # the janitor has removed what was before
        await becomes(index, [10, 6])
        log.records, log.last, log.created, log.first = LOG[:1], 20, "again", 1
        await becomes(index, [1])


async def test_it_is_complete_once_the_replica_that_is_read_has_shown_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_api.audit.index.POLL", 0.01)
    log = Log(LOG, 10)
    log.lag = 1
    async with following(log) as index:
        await until_true(lambda: bool(index._table and index._table.sequence))  # noqa: SLF001 - nothing else tells it
        assert await sequences(index) is None
        log.lag = 0
        await becomes(index, [10, 6, 4, 1])


async def test_it_covers_only_the_newest_events() -> None:
    async with following(Log(LOG, 10), span=5) as index:
        await becomes(index, [10, 6])


async def test_who_has_signed_is_found_by_key_and_by_what_is_known_of_its_owner() -> None:
    known, unknown = (
        msgspec.structs.replace(record(by(events.submitted(), by=name), number, token=A), signer=signer)
        for number, name, signer in ((1, "claim", "ULOG"), (2, "other", "UXYZ"))
    )
    async with following(Log([known, unknown], 2)) as index:
        await becomes(index, [2, 1])

        async def of(who: str) -> list[int]:
            return await index.ask(lambda table: found(table, who=who))

        for who in ("ULOG", "ann", "e1", "acc1", "claim"):
            assert await of(who) == [1]
        assert (await of("UXYZ"), await of("other"), await of("nobody")) == ([2], [2], [])
