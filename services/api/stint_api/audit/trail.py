"""Who did what, as one caller may see it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from stint.core.job import Job
from stint.core.names.ids import FLEET_TOKEN, queue_name
from stint.core.names.subjects import EventAddress
from stint.core.operations import DrainRequested, OperationRecord
from stint.core.trail import OURS, Action, asked, operated
from stint.jetstream import JetStreamOperations
from stint.ports import EventLog
from stint.vault.actions import DRAIN, READ
from stint_api.audit.index import AuditIndex, Tables
from stint_api.audit.jobs import jobs_of
from stint_api.audit.table import Entry, WantedEntries
from stint_api.auth import Authenticator, Identity

BATCH: Final = 50
"""Actions that are looked at together."""
LOOKED_AT: Final = 1000
"""Actions that one question looks at: of a caller who may read few of them, a page may be short or empty."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry, and what came of it.

    Attributes:
        proven: whether `who`, `entity` and `accessor` are what Vault said to the API.
    """

    entry: Entry
    action: Action
    proven: bool


@dataclass(frozen=True, slots=True)
class Trail:
    """A page of entries.

    Attributes:
        next: the sequence behind which the next page begins, None if there is none.
        as_of: until when the index was complete.
    """

    shown: Sequence[Shown]
    next: int | None
    as_of: datetime


class Audit:
    """Pages of actions in the queues that a caller may read, and on the runners that it may drain."""

    def __init__(
        self,
        index: AuditIndex,
        log: EventLog,
        operations: JetStreamOperations,
        auth: Authenticator,
        *,
        accounts: bool,
    ) -> None:
        """`accounts`: NATS has an account for each role, so that nobody but the API can write what is the API's."""
        self._index = index
        self._log = log
        self._operations = operations
        self._auth = auth
        self._proven = OURS if accounts else frozenset[str]()

    async def find(self, identity: Identity, wanted: WantedEntries, limit: int) -> Trail:
        """The page, without the actions in queues that the caller may not read.

        Raises:
            RefusalError: the caller may not read the queue that it asks for, or its token has ended.
            BrokerUnavailableError: the actions are not known yet, or NATS does not answer.
        """
        if wanted.token is not None:
            await self._auth.require(identity, READ, queue_name(wanted.token))
        found: list[Shown] = []
        as_of = self._index.as_of
        for _ in range(LOOKED_AT // BATCH):
            entries = await self._index.ask(partial(_next, wanted))
            for shown in await self._shown(identity, entries):
                if len(found) == limit:
                    return Trail(found, found[-1].entry.sequence, as_of)
                found.append(shown)
            if len(entries) < BATCH:
                return Trail(found, None, as_of)
            wanted = replace(wanted, behind=entries[-1].sequence)
        return Trail(found, wanted.behind, as_of)

    async def _shown(self, identity: Identity, entries: Sequence[Entry]) -> Sequence[Shown]:
        """Those of the entries that the caller may see and that the log still has."""
        queues = {queue_name(entry.token) for entry in entries if entry.token != FLEET_TOKEN}
        readable = await self._auth.readable(identity, queues)
        mine = [entry for entry in entries if entry.token == FLEET_TOKEN or queue_name(entry.token) in readable]
        jobs = await jobs_of(self._log, self._index, [entry for entry in mine if not entry.is_operation])
        stored = await self._stored(identity, [entry for entry in mine if entry.is_operation])
        return list(self._merged(mine, jobs, stored))

    def _merged(
        self, entries: Iterable[Entry], jobs: Mapping[str, Job], stored: Mapping[EventAddress, OperationRecord]
    ) -> Iterator[Shown]:
        for entry in entries:
            operation = stored.get(entry.place)
            if operation and operation.event:
                action = operated(entry.token, operation.event)
            elif not entry.is_operation and entry.job in jobs:
                action = asked(entry.token, entry.kind, entry.sequence, jobs[entry.job])
            else:
                continue
            yield Shown(entry, action, proven=entry.kind in self._proven)

    async def _stored(self, identity: Identity, entries: Sequence[Entry]) -> Mapping[EventAddress, OperationRecord]:
        """The operations, without those on runners that the caller may not drain."""
        found = await self._operations.read([entry.place for entry in entries])
        runners = {place: one.event.runner for place, one in found.items() if isinstance(one.event, DrainRequested)}
        drained = await self._auth.permitted(identity, DRAIN, set(runners.values()))
        return {place: one for place, one in found.items() if place not in runners or runners[place] in drained}


def _next(wanted: WantedEntries, tables: Tables) -> Sequence[Entry]:
    return tables.entries.find(wanted, BATCH)
