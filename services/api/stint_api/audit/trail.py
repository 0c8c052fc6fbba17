"""Who did what, and which jobs got a secret, as one caller may see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from stint.core.audit.operations import DrainRequested
from stint.core.audit.trail import OURS, Action, asked, is_older, operated, path_of
from stint.core.events import Record, Submitted, Writer
from stint.core.job import Job
from stint.core.names.ids import FLEET_TOKEN, queue_name
from stint.core.names.subjects import EventAddress
from stint.jetstream import JetStreamOperations, JetStreamSignatures, Signed
from stint.ports import EventLog
from stint.vault.actions import DRAIN, READ
from stint_api.audit.index import AuditIndex
from stint_api.audit.secrets import Given, WantedSecret
from stint_api.audit.table import AuditTable, Entry, WantedEntries
from stint_api.auth import Authenticator, Identity

BATCH: Final = 50
"""Actions that are looked at together."""
LOOKED_AT: Final = 1000
"""Actions that one question looks at: of a caller who may read few of them, a page may be short or empty."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry, and what came of it.

    Attributes:
        by: who did it. If `proven`, all of it is proven; otherwise it is what the event says.
        proven: whether Vault said so to the API, or a direct publisher's signature is right.
        claimed: the display name that the event says, if something else is proven.
    """

    entry: Entry
    action: Action
    by: Writer
    proven: bool
    claimed: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A secret that a job got. It is `outdated` if a job has got a newer version since."""

    given: Given
    qname: str
    job: Job
    outdated: bool

    @property
    def who(self) -> str:
        """Who submitted the job."""
        submitted = self.job.fact(Submitted)
        return submitted.by if submitted else ""


@dataclass(frozen=True, slots=True)
class Holders:
    """A page of them, and the number behind which the next begins, None if there is none.

    `newest` is the newest version that a job got, in the queues that the caller may read; None if there is none.
    """

    holders: Sequence[Holder]
    newest: int | None
    next: int | None


@dataclass(frozen=True, slots=True)
class Audit:
    """Who did what in the queues that a caller may read, and to the runners that it may drain; and who got a secret.

    `signatures` is None if NATS has no account for each role: then anybody can write anything.
    """

    index: AuditIndex
    log: EventLog
    operations: JetStreamOperations
    signatures: JetStreamSignatures | None
    auth: Authenticator

    async def find(self, identity: Identity, wanted: WantedEntries, limit: int) -> tuple[Sequence[Shown], int | None]:
        """A page of actions, and the sequence behind which the next begins, None if there is none.

        Raises RefusalError if the caller may not read the queue that it asks for, or its token has ended, and
        BrokerUnavailableError if the actions are not known yet, or NATS does not answer.
        """
        if wanted.token is not None:
            await self.auth.require(identity, READ, queue_name(wanted.token))
        found: list[Shown] = []
        for _ in range(LOOKED_AT // BATCH):
            entries = await self.index.ask(partial(AuditTable.find, wanted=wanted, limit=BATCH))
            for shown in await self._shown(identity, entries):
                if len(found) == limit:
                    return found, found[-1].entry.sequence
                found.append(shown)
            if len(entries) < BATCH:
                return found, None
            wanted = replace(wanted, behind=entries[-1].sequence)
        return found, wanted.behind

    async def _shown(self, identity: Identity, entries: Sequence[Entry]) -> Sequence[Shown]:
        """Those of the entries that the caller may see and that the log still has."""
        queues = {queue_name(entry.token) for entry in entries if entry.token != FLEET_TOKEN}
        readable = await self.auth.permitted(identity, READ, queues)
        mine = [entry for entry in entries if entry.token == FLEET_TOKEN or queue_name(entry.token) in readable]
        jobs = await self.index.jobs_of(self.log, [entry for entry in mine if not entry.is_operation])
        stored = await self._stored(identity, [entry for entry in mine if entry.is_operation])
        places = [entry.place for entry in mine if entry.signer]
        signed: Mapping[EventAddress, Signed] = await self.signatures.read(places) if self.signatures else {}
        return [
            self._shown_as(entry, action, signed.get(entry.place))
            for entry in mine
            if (action := _action(entry, jobs, stored))
        ]

    async def _stored(self, identity: Identity, entries: Sequence[Entry]) -> Mapping[EventAddress, Record]:
        """The operations, without those on runners that the caller may not drain."""
        found = await self.operations.read([entry.place for entry in entries])
        runners = {place: one.event.runner for place, one in found.items() if isinstance(one.event, DrainRequested)}
        drained = await self.auth.permitted(identity, DRAIN, set(runners.values()))
        return {place: one for place, one in found.items() if place not in runners or runners[place] in drained}

    def _shown_as(self, entry: Entry, action: Action, signed: Signed | None) -> Shown:
        """The entry with who did it. What only the API can have written needs no signature."""
        ours = entry.kind in OURS and self.signatures is not None
        if ours or signed is None or signed.sequence != entry.sequence:
            return Shown(entry, action, entry.writer, proven=ours)
        claimed = entry.who if entry.who != signed.by.who else ""
        return Shown(entry, action, signed.by, proven=True, claimed=claimed)

    async def holders(self, identity: Identity, wanted: WantedSecret, limit: int) -> Holders:
        """A page of the jobs that got a secret. It may be short although another follows.

        Raises RefusalError if the token has ended since it was looked up, and BrokerUnavailableError if the events are
        not known yet, or NATS does not answer.
        """
        versions = await self.index.ask(lambda table: table.newest(path_of(wanted.secret)))
        readable = await self.auth.permitted(identity, READ, [queue_name(token) for token in versions])
        mine = {token: version for token, version in versions.items() if queue_name(token) in readable}
        newest = max((version for version in mine.values() if version is not None), default=None)
        rows = await self.index.ask(lambda table: table.given(wanted, newest, list(mine), limit + 1))
        jobs = await self.index.jobs_of(self.log, rows[:limit])
        holders = [
            Holder(row, queue_name(row.token), job, is_older(row.version, newest))
            for row in rows[:limit]
            # A stranger may have named the job of another queue, which is none of this queue's readers' business.
            if (job := jobs.get(row.job)) and job.token == row.token
        ]
        return Holders(holders, newest, rows[limit - 1].number if len(rows) > limit else None)


def _action(entry: Entry, jobs: Mapping[str, Job], stored: Mapping[EventAddress, Record]) -> Action | None:
    operation = stored.get(entry.place)
    if operation and operation.event:
        return operated(entry.token, operation.event)
    job = None if entry.is_operation else jobs.get(entry.job)
    return asked(entry.token, entry.kind, entry.sequence, job) if job else None
