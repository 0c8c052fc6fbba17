"""Keeps the tables up to date with the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from stint.core.audit.signature import KeyOwner
from stint.core.errors import BrokerUnavailableError
from stint.core.job import Job
from stint.jetstream import FactsPage, JetStreamFacts, JetStreamKeyOwners
from stint.ports import EventLog
from stint.process.waiting import for_each, repeat
from stint_api.audit.secrets import Given, SecretTable
from stint_api.audit.table import Entry, EntryTable

T = TypeVar("T")

POLL: Final = 1.0
"""Seconds between two looks for new events."""
LOADS: Final = 16
"""Jobs that are loaded at a time."""


@dataclass
class Tables:
    """What the index has of the events up to a sequence."""

    sequence: int
    entries: EntryTable = field(default_factory=EntryTable)
    secrets: SecretTable = field(default_factory=SecretTable)

    def apply(self, page: FactsPage, owners: Mapping[str, KeyOwner]) -> None:
        """Take what further events contain."""
        self.entries.apply([*page.records, *page.operations], owners)
        self.secrets.apply(page.records)
        self.sequence = page.sequence

    def forget(self, through: int) -> None:
        """Forget the events up to this sequence."""
        self.entries.forget(through)
        self.secrets.forget(through)

    def remove(self, sequences: Sequence[int]) -> None:
        """Forget single events."""
        self.entries.remove(sequences)
        self.secrets.remove(sequences)

    def close(self) -> None:
        """Free the memory."""
        self.entries.close()
        self.secrets.close()


@dataclass(eq=False)
class AuditIndex:
    """What somebody caused, and which jobs got which secrets, among the newest `span` events of the log.

    It is about a second old while NATS answers, and does not change while NATS is unavailable. Until the log was read
    to its end for the first time, questions raise BrokerUnavailableError. It does not notice that single events were
    removed: load the job. `connected` returns once NATS is there.
    """

    facts: JetStreamFacts
    owners: JetStreamKeyOwners
    connected: Callable[[], Awaitable[None]]
    span: int
    now: Callable[[], datetime]
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="audit"))
    _tables: Tables | None = None
    _created: str = ""
    _as_of: datetime | None = None

    @property
    def as_of(self) -> datetime:
        """Until when it is complete."""
        return self._complete()[1]

    async def ask(self, question: Callable[[Tables], T]) -> T:
        """What the tables answer."""
        tables, _ = self._complete()
        return await self._do(partial(question, tables))

    async def jobs_of(self, log: EventLog, rows: Sequence[Entry | Given]) -> Mapping[str, Job]:
        """The jobs of these rows, the newest first, at least as new as they are. Rows without a job are forgotten."""
        newest = {row.job: row.sequence for row in reversed(rows)}
        jobs: dict[str, Job] = {}

        async def load(job_id: str) -> None:
            if job := await log.load(job_id, at_least=newest[job_id]):
                jobs[job_id] = job

        await for_each(newest, load, at_once=LOADS)
        if gone := [row.sequence for row in rows if row.job not in jobs]:
            await self.ask(lambda tables: tables.remove(gone))
        return jobs

    def _complete(self) -> tuple[Tables, datetime]:
        if self._tables is None or self._as_of is None:
            raise BrokerUnavailableError("The audit is not complete yet: the log has not been read to its end.")
        return self._tables, self._as_of

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await repeat(self._catch_up, lambda: POLL, failed="the log cannot be read for the audit, retrying")

    async def _catch_up(self) -> None:
        """Apply what is new. Another log than before is read from its beginning."""
        await self.connected()
        moment, state = self.now(), await self.facts.state()
        tables, oldest = self._tables, max(state.first - 1, state.last - self.span)
        if tables is None or state.created != self._created or state.last < tables.sequence:
            if tables is not None:
                self._thread.submit(tables.close)
            tables = self._tables = Tables(oldest)
            self._created, self._as_of = state.created, None
        async for page in self.facts.pages(after=tables.sequence):
            owners = await self.owners.read({record.signer for record in page.records if record.signer})
            await self._do(partial(tables.apply, page, owners))
        await self._do(partial(tables.forget, oldest))
        if not await self.facts.lacks(after=tables.sequence, through=state.last):
            self._as_of = moment
