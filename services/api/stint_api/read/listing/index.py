"""What lists and counts are made from: all views in a table, kept up to date by following the bucket."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Final, TypeVar

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.ports import StreamState, ViewStore
from stint_api.read.listing.feed import Feed
from stint_api.read.listing.query import Counts, Found, Page
from stint_api.read.listing.table import Table

log = structlog.get_logger()

T = TypeVar("T")

RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts to follow the bucket."""
CHECK_INTERVAL: Final = 2.0
"""Seconds between two checks whether the bucket is still the same, because a purge is not announced."""
TOGETHER: Final = 0.1
"""Seconds for which changes are collected after others were applied, because the table's thread takes a dozen turns at
Python for each page: at 130 submissions a second each costs an API that only follows them 0.23 ms of CPU, not 0.28."""

NUMBERS: Final = 2**32
"""Numbers that a table has for its queues. None is one of an earlier table: by its number it is remembered for some
seconds whether a caller may read a queue, even if this task has failed and begun again meanwhile."""


class ListIndex:
    """What the list and the counts are made from; at most about a second old while NATS answers.

    While NATS is unavailable it does not change. Until the bucket was read to its end for the first time, all questions
    raise BrokerUnavailableError. After an outage it continues where it was, as long as it can have missed no deletion.

    The table has a thread of its own, so that no question holds up the event loop. `ready` is set while the table is
    kept up to date, and `as_of` is when it was last known to be.
    """

    def __init__(
        self,
        views: ViewStore,
        *,
        connected: Callable[[], Awaitable[None]],
        retention: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        """`connected` returns once NATS is there; ended jobs are shown for `retention`."""
        self._store = views
        self._connected = connected
        self._retention = retention
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._table: Table | None = None
        self._numbers = count(0, NUMBERS)
        self._created = ""
        self._feed = Feed()
        self._complete_at = 0.0
        self.as_of = datetime.min.replace(tzinfo=UTC)
        self.ready = asyncio.Event()

    async def find(self, page: Page) -> Found:
        """The jobs of a page that can be seen, the last submitted first."""
        return await self.ask(lambda table: table.find(page))

    async def counts(self) -> Counts:
        """How many jobs can be seen. Takes the same time however many there are."""
        return await self.ask(Table.counts)

    async def ask(self, question: Callable[[Table], T]) -> T:
        """What the table answers."""
        table = self._complete()

        def answer() -> T:
            table.expire(self._now())
            return question(table)

        return await self._do(answer)

    @property
    def feed(self) -> Feed:
        """Every change from now on. Raises BrokerUnavailableError as all questions do."""
        self._complete()
        return self._feed

    def _complete(self) -> Table:
        if self._table is None:
            raise BrokerUnavailableError("The list of jobs is not complete yet: NATS has not answered.")
        return self._table

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        self.ready.clear()
        try:
            while True:
                await self._connected()
                try:
                    await self._follow()
                except BrokerUnavailableError as error:
                    log.debug("following the views again", error=error.sentence)
                except StintError as error:
                    log.warning("the views cannot be followed, retrying", error=error.sentence)
                else:
                    continue
                self.ready.clear()
                await asyncio.sleep(RETRY_PAUSE)
        finally:
            self._use(None)

    async def _follow(self) -> None:
        """Follow until views have disappeared without a message. Then they are read anew."""
        state = await self._store.state()
        table = self._table
        if table is None or not await self._continues(table, state):
            table = await self._do(partial(Table, self._retention, after=next(self._numbers)))
            self._created = state.created
        try:
            await self._keep(table)
        finally:
            if table is not self._table:
                self._thread.submit(table.close)

    async def _continues(self, table: Table, state: StreamState) -> bool:
        """Whether the table needs only what is new in the bucket."""
        away = time.monotonic() - self._complete_at
        return away < self._store.deletions_kept / 2 and await self._is_whole(table, state)

    async def _is_whole(self, table: Table, state: StreamState) -> bool:
        return state.created == self._created and await self._do(lambda: table.is_whole(state))

    async def _keep(self, table: Table) -> None:
        """Apply all changes. Until the table is complete the one before it stays in use."""
        check_at = time.monotonic() + CHECK_INTERVAL
        async with self._store.follow(after=table.sequence) as pages:
            async for page in pages:
                if page:
                    changes = await self._do(partial(table.apply, page))
                    if table is self._table:
                        self._feed.add(changes, table.sequence)
                else:
                    if table is not self._table:
                        await self._do(table.complete)
                        self._feed.restart(self._created, table.sequence)
                    self._complete_at, self.as_of = time.monotonic(), self._now()
                    self._use(table)
                    self.ready.set()
                    await asyncio.sleep(TOGETHER)
                if time.monotonic() >= check_at:
                    if not await self._is_whole(table, await self._store.state()):
                        return
                    check_at = time.monotonic() + CHECK_INTERVAL

    def _use(self, table: Table | None) -> None:
        if self._table and self._table is not table:
            self._thread.submit(self._table.close)
        self._table = table
