"""The changes of all jobs that a caller may read, as they come."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

import stint
from stint.core.errors import VaultUnavailableError
from stint.core.job import State
from stint.core.view import JobView
from stint.process.waiting import any_of
from stint_api.read.listing.feed import Change, Feed, Mark
from stint_api.web import streaming

log = structlog.get_logger()

TICK: Final = 10.0
"""Seconds without an event after which a ping is sent."""
AGAIN: Final = 1.0
"""Seconds after which Vault is asked again when it did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """Which jobs a client wants to hear of: those of a queue, and those that have or had a status."""

    qname: str | None = None
    status: State | None = None

    def covers(self, change: Change) -> bool:
        """Whether it wants to hear of this change. A job that leaves the status is told for the last time."""
        if self.qname not in {None, change.qname}:
            return False
        return self.status in {None, change.was, change.view.status if change.view else None}


@dataclass(frozen=True, slots=True)
class LiveChanges:
    """One client's stream of changes. It waits for its client, never the others; see `Feed`.

    Attributes:
        mark: where the client's last stream broke off.
        readable: gives those of the queues that the caller may read.
        render: gives what an event tells of a job.
    """

    feed: Feed
    mark: Mark
    interest: Interest
    readable: Callable[[Collection[str]], Awaitable[Collection[str]]]
    render: Callable[[JobView], Mapping[str, Any]]

    async def events(self, *ends: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Encoded events, until one of `ends` is set. While Vault is unavailable there are only pings."""
        clock = asyncio.get_running_loop().time
        mark, told = self.mark, -math.inf
        while not any(end.is_set() for end in ends):
            news, some = self.feed.news, self.feed.since(mark)
            mark = mark if some else self.feed.end
            if some is None or told == -math.inf:
                hello = {"release": stint.__version__, "resumed": some is not None}
                yield streaming.event("hello", hello, event_id=str(mark))
                told = clock()
            if not some:
                await any_of(news, *ends, within=max(0, told + TICK - clock()))
            elif (permitted := await self._permitted(some)) is None:
                await any_of(*ends, within=AGAIN)
            else:
                for change in permitted:
                    yield self._encoded(change, mark.bucket)
                    told = clock()
                mark = mark._replace(revision=some[-1].revision)
            if clock() >= told + TICK:  # also while others' changes come all the time
                yield streaming.ping(str(mark))
                told = clock()

    async def _permitted(self, changes: Sequence[Change]) -> Sequence[Change] | None:
        """Those that concern the client and that it may hear of; None if Vault does not say."""
        wanted = [change for change in changes if self.interest.covers(change)]
        try:
            readable = await self.readable({change.qname for change in wanted}) if wanted else ()
        except VaultUnavailableError as error:
            log.debug("a stream of changes waits for Vault", error=error.sentence)
            return None
        return [change for change in wanted if change.qname in readable]

    def _encoded(self, change: Change, bucket: str) -> bytes:
        """The event, which is the same for all clients."""
        if not change.encoded:
            gone = {"_id": change.job_id, "qname": change.qname}
            name, data = ("job", self.render(change.view)) if change.view else ("gone", gone)
            change.encoded = streaming.event(name, data, event_id=str(Mark(bucket, change.revision)))
        return change.encoded
