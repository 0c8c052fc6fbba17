"""Who did what, as one caller may see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from stint.core.events import ACTIONS, Rejected, Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.natsauth.roles import PUBLISHED
from stint.ports import EventLog
from stint.vault.actions import READ
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
        qname: the queue's name.
        answer: `accepted`, `ignored` if the job's state did not allow it, or `rejected` for a malformed submission.
        status: the job's status now, "" if it is not a job of this queue.
        proven: whether `who`, `entity` and `accessor` are what Vault said to the API.
    """

    entry: Entry
    qname: str
    answer: str
    status: str
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
    """Pages of actions in the queues that a caller may read."""

    def __init__(self, index: AuditIndex, log: EventLog, auth: Authenticator, *, accounts: bool) -> None:
        """`accounts`: NATS has an account for each role, so that nobody but the API can write what is the API's."""
        self._index = index
        self._log = log
        self._auth = auth
        self._proven = ACTIONS - {shape.kind for shape in PUBLISHED} if accounts else frozenset[str]()

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
        readable = await self._auth.readable(identity, {queue_name(entry.token) for entry in entries})
        mine = [entry for entry in entries if queue_name(entry.token) in readable]
        jobs = await jobs_of(self._log, self._index, mine)
        return [self._with_answer(entry, jobs[entry.job]) for entry in mine if entry.job in jobs]

    def _with_answer(self, entry: Entry, job: Job) -> Shown:
        counted = job.facts.get(entry.kind)
        answer = "accepted" if counted and counted.sequence == entry.sequence else "ignored"
        if answer == "accepted" and entry.kind == Submitted.kind and Rejected.kind in job.facts:
            answer = "rejected"
        # A stranger may have named the job of another queue, which is none of this queue's readers' business.
        status = job.state if job.token == entry.token else ""
        return Shown(entry, queue_name(entry.token), answer, status, entry.kind in self._proven)


def _next(wanted: WantedEntries, tables: Tables) -> Sequence[Entry]:
    return tables.entries.find(wanted, BATCH)
