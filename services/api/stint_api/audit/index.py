"""Keeps the table of actions up to date with the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.jetstream import JetStreamFacts
from stint_api.audit.table import Entry, EntryTable, WantedEntries

log = structlog.get_logger()

T = TypeVar("T")

POLL: Final = 1.0
"""Seconds between two looks for new events."""


class AuditIndex:
    """The actions among the newest `span` events of the log; about a second old while NATS answers.

    While NATS is unavailable it does not change. Until the log was read to its end for the first time, questions raise
    BrokerUnavailableError. It does not notice that single events were removed: load the job.

    """

    def __init__(
        self, facts: JetStreamFacts, *, connected: Callable[[], Awaitable[None]], span: int, now: Callable[[], datetime]
    ) -> None:
        """`connected` returns once NATS is there."""
        self._facts = facts
        self._connected = connected
        self._span = span
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._table: EntryTable | None = None
        self._created = ""
        self._as_of: datetime | None = None

    @property
    def as_of(self) -> datetime:
        """Until when it is complete."""
        return self._complete()[1]

    async def find(self, wanted: WantedEntries, limit: int) -> Sequence[Entry]:
        """The next of the actions that are wanted, the newest first."""
        return await self._ask(lambda table: table.find(wanted, limit))

    async def forget(self, sequences: Sequence[int]) -> None:
        """Forget actions that the log does not have any more."""
        await self._ask(lambda table: table.remove(sequences))

    async def _ask(self, question: Callable[[EntryTable], T]) -> T:
        table, _ = self._complete()
        return await self._do(partial(question, table))

    def _complete(self) -> tuple[EntryTable, datetime]:
        if self._table is None or self._as_of is None:
            raise BrokerUnavailableError("The audit is not complete yet: the log has not been read to its end.")
        return self._table, self._as_of

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            await self._connected()
            try:
                await self._catch_up()
            except BrokerUnavailableError as error:
                log.debug("the audit waits for NATS", error=error.sentence)
            except StintError as error:
                log.warning("the log cannot be read for the audit, retrying", error=error.sentence)
            await asyncio.sleep(POLL)

    async def _catch_up(self) -> None:
        """Apply what is new. Another log than before is read from its beginning."""
        moment, state = self._now(), await self._facts.state()
        table, oldest = self._table, max(state.first - 1, state.last - self._span)
        if table is None or state.created != self._created or state.last < table.sequence:
            if table is not None:
                self._thread.submit(table.close)
            table = self._table = EntryTable(oldest)
            self._created, self._as_of = state.created, None
        async for page in self._facts.pages(after=table.sequence):
            await self._do(partial(table.apply, *page))
        await self._do(partial(table.forget, oldest))
        self._as_of = moment
