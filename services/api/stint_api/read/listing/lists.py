"""Lists of jobs, as one caller may see them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from weakref import WeakValueDictionary

from stint.core.job import TERMINAL, State
from stint.vault.actions import READ
from stint_api.auth import CACHE_SECONDS, Authenticator, Identity, Memory
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.query import Found, Page, Queues
from stint_api.read.listing.sql import as_json
from stint_api.read.listing.table import Table

REMEMBERED: Final = 20
"""Tokens for which it is remembered which queues they may read: about 200 bytes for each queue."""

OPEN: Final = frozenset(State) - TERMINAL
"""States of jobs that are not over."""
_NONE: Final = Queues(through=0, shown="[]")


@dataclass
class _Readable:
    """What Vault said of one token: which queues it may read, and the same by their numbers in the index."""

    names: dict[str, bool] = field(default_factory=dict)
    hidden: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)

    queues: Queues = _NONE

    def add(self, queues: Sequence[tuple[int, str]]) -> None:
        """The numbers of further queues, in order, whose names are known."""
        for number, name in queues:
            (self.shown if self.names[name] else self.hidden).append(number)
        through = max(self.queues.through, *(number for number, _ in queues))
        if len(self.hidden) <= len(self.shown):
            self.queues = Queues(through=through, hidden=as_json(self.hidden))
        else:
            self.queues = Queues(through=through, shown=as_json(self.shown))


class Lists:
    """Pages of jobs. What Vault says of a token is remembered as long as who it belongs to.

    Vault is asked about all queues that may have jobs of the list, since a list says how many jobs it has. A caller's
    lists wait for each other meanwhile.
    """

    def __init__(self, index: ListIndex, auth: Authenticator, *, monotonic: Callable[[], float]) -> None:
        self._index = index
        self._auth = auth
        self._monotonic = monotonic
        self._readable = Memory[_Readable](monotonic, REMEMBERED)
        self._listing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find(self, identity: Identity, page: Page) -> Found:
        """The page, without the jobs that the caller may not read.

        Raises RefusalError if the token has ended since it was looked up, and BrokerUnavailableError until the jobs are
        known.
        """
        if not self._auth.by_policy:
            return await self._index.find(page)
        async with self._remembered(identity) as readable:
            if page.wanted.qname is not None:
                return await self._ask_about_one(identity, readable, page)
            if (page.wanted.held or page.wanted.status in OPEN) and not page.counted:
                return await self._ask_about_some(identity, readable, page)
            return await self._ask_about_all(identity, readable, page)

    async def readable(self, identity: Identity, qnames: Collection[str]) -> Collection[str]:
        """Those of the queues, however many, that the caller may read. Raises as `find` does."""
        if not self._auth.by_policy:
            return qnames
        async with self._remembered(identity) as readable:
            await self._ask(identity, readable, qnames)
            return {qname for qname in qnames if readable.names[qname]}

    @asynccontextmanager
    async def _remembered(self, identity: Identity) -> AsyncIterator[_Readable]:
        """What is known of the caller, to be added to during the block, by one of its lists at a time."""
        async with self._listing.setdefault(identity.caller, asyncio.Lock()):
            known = self._readable.get(identity.token)
            until = self._monotonic() + CACHE_SECONDS
            readable = known or _Readable()
            yield readable
            if known is None:
                self._readable.put(identity.token, readable, until - self._monotonic())

    async def _ask_about_all(self, identity: Identity, readable: _Readable, page: Page) -> Found:
        """Usually no queue is new: then one turn of the table's thread answers."""
        known = replace(page, queues=readable.queues)

        def look(table: Table) -> tuple[Sequence[tuple[int, str]], Found | None]:
            new = table.queues(readable.queues.through)
            return new, None if new else table.find(known)

        new, found = await self._index.ask(look)
        if found:
            return found
        await self._ask(identity, readable, (name for _, name in new))
        readable.add(new)
        return await self._index.find(replace(page, queues=readable.queues))

    async def _ask_about_some(self, identity: Identity, readable: _Readable, page: Page) -> Found:
        """Jobs that are not over are in few queues: about the others Vault need not be asked."""
        queues = await self._index.ask(lambda table: table.queues_with(page.wanted))
        await self._ask(identity, readable, (name for _, name in queues))
        shown = [number for number, name in queues if readable.names[name]]
        return await self._index.find(replace(page, queues=Queues(through=max(shown, default=0), shown=as_json(shown))))

    async def _ask_about_one(self, identity: Identity, readable: _Readable, page: Page) -> Found:
        qname = page.wanted.qname or ""
        await self._ask(identity, readable, [qname])
        if readable.names[qname]:
            return await self._index.find(page)
        return Found(jobs=(), total=0, next=None, counts={} if page.counted else None)

    async def _ask(self, identity: Identity, readable: _Readable, qnames: Iterable[str]) -> None:
        if unknown := [qname for qname in qnames if qname not in readable.names]:
            allowed = await self._auth.permitted(identity, READ, unknown)
            readable.names.update((qname, qname in allowed) for qname in unknown)
