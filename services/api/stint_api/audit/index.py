"""Keeps the table up to date with the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from stint.core.errors import BrokerUnavailableError
from stint.core.job import Job
from stint.jetstream import JetStreamFacts, JetStreamKeyOwners
from stint.ports import EventLog
from stint.process.waiting import for_each, repeat
from stint_api.audit.secrets import Given
from stint_api.audit.table import AuditTable, Entry

T = TypeVar("T")

POLL: Final = 1.0
"""Seconds between two looks for new events."""
LOADS: Final = 16
"""Jobs that are loaded at a time."""


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
    _table: AuditTable | None = None
    _created: str = ""
    _as_of: datetime | None = None

    @property
    def as_of(self) -> datetime:
        """Until when it is complete."""
        return self._complete()[1]

    async def ask(self, question: Callable[[AuditTable], T]) -> T:
        """What the table answers."""
        table, _ = self._complete()
        return await self._do(partial(question, table))

    async def jobs_of(self, log: EventLog, rows: Sequence[Entry | Given]) -> Mapping[str, Job]:
        """The jobs of these rows, the newest first, at least as new as they are. Rows without a job are forgotten."""
        newest = {row.job: row.sequence for row in reversed(rows)}
        jobs: dict[str, Job] = {}

        async def load(job_id: str) -> None:
            if job := await log.load(job_id, at_least=newest[job_id]):
                jobs[job_id] = job

        await for_each(newest, load, at_once=LOADS)
        if gone := [row.sequence for row in rows if row.job not in jobs]:
            await self.ask(lambda table: table.remove(gone))
        return jobs

    def _complete(self) -> tuple[AuditTable, datetime]:
        if self._table is None or self._as_of is None:
            raise BrokerUnavailableError("The audit is not complete yet: the log has not been read to its end.")
        return self._table, self._as_of

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await repeat(self._catch_up, lambda: POLL, failed="the log cannot be read for the audit, retrying")

    async def _catch_up(self) -> None:
        """Apply what is new. Another log than before is read from its beginning."""
        await self.connected()
        moment, state = self.now(), await self.facts.state()
        table, oldest = self._table, max(state.first - 1, state.last - self.span)
        if table is None or state.created != self._created or state.last < table.sequence:
            if table is not None:
                self._thread.submit(table.close)
            table = self._table = AuditTable(oldest)
            self._created, self._as_of = state.created, None
        async for page in self.facts.pages(after=table.sequence):
            owners = await self.owners.read({record.signer for record in page.records if record.signer})
            await self._do(partial(table.apply, [*page.records, *page.operations], owners))
            table.sequence = page.sequence
        await self._do(partial(table.forget, oldest))
        if not await self.facts.lacks(after=table.sequence, through=state.last):
            self._as_of = moment
