"""The changes of the views: the last ones, kept once for all, and the stream of them that each client gets."""

import asyncio
import math
import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog

import stint
from stint.core.errors import VaultUnavailableError
from stint.core.job import State
from stint.core.view import JobView
from stint.ports import StoredView
from stint.process.waiting import any_of
from stint_api.read.listing.query import STATES
from stint_api.web import streaming

log = structlog.get_logger()

KEPT: Final = 4096
"""Changes that a client may be behind, slow or away: about 2 KiB of memory each."""
SPARE: Final = 1024
"""Changes beyond that until the oldest are dropped."""
AT_ONCE: Final = 256
"""Changes that are given at a time."""

TICK: Final = 10.0
"""Seconds without an event after which a ping is sent."""
AGAIN: Final = 1.0
"""Seconds after which Vault is asked again when it did not answer."""
_MARK: Final = re.compile(r"([0-9]{1,40})-([0-9]{1,19})")


class Mark(NamedTuple):
    """How far a client has heard: up to a revision of a bucket, which has the time of its creation for a name."""

    bucket: str
    revision: int

    def __str__(self) -> str:
        return f"{self.bucket}-{self.revision}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """The mark in an event's id; any other text is no place in any bucket."""
        found = _MARK.fullmatch(text)
        return cls(found[1], int(found[2])) if found else cls("", -1)


@dataclass(slots=True)
class Change:
    """A view that was written, or is None, because the job was deleted or has expired.

    `was` is its status before, None for a new job; `encoded` is the event that tells it, once somebody has made it.
    """

    revision: int
    job_id: str
    qname: str
    view: JobView | None
    was: State | None
    encoded: bytes = b""


def changes(
    last: Mapping[str, StoredView], views: Mapping[str, JobView | None], before: Mapping[str, tuple[str, int]]
) -> Iterator[Change]:
    """What has changed, if these views have come in the place of those before. Nothing, where there were none."""
    for job_id, job in views.items():
        known = before.get(job_id)
        if job or known:
            qname = job.qname if job else known[0] if known else ""
            yield Change(last[job_id].revision, job_id, qname, job, STATES[known[1]] if known else None)


class Feed:
    """The changes up to the present one. Who lags behind by more than is kept is told so.

    `news` is set when there are more; then another event takes its place.
    """

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._oldest = 0
        self.end = Mark("", 0)
        self.news = asyncio.Event()

    def restart(self, created: str, revision: int) -> None:
        """All views were read anew: nobody can continue from before."""
        self._changes = []
        self._oldest = revision
        self.end = Mark(re.sub(r"\D", "", created), revision)
        self._wake()

    def add(self, changes: Sequence[Change], revision: int) -> None:
        """Add changes in the order of their revisions, up to this one."""
        self._changes += changes
        self.end = Mark(self.end.bucket, revision)
        if len(self._changes) > KEPT + SPARE:
            self._oldest = self._changes[-KEPT - 1].revision
            del self._changes[:-KEPT]
        self._wake()

    def since(self, mark: Mark) -> Sequence[Change] | None:
        """The next changes behind this mark, `AT_ONCE` at most. None if some of them are not known any more."""
        if mark.bucket != self.end.bucket or not self._oldest <= mark.revision <= self.end.revision:
            return None
        first = bisect_right(self._changes, mark.revision, key=lambda change: change.revision)
        return self._changes[first : first + AT_ONCE]

    def _wake(self) -> None:
        this, self.news = self.news, asyncio.Event()
        this.set()


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

    async def events(self, closing: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Encoded events, until `closing` is set. While Vault is unavailable there are only pings."""
        clock = asyncio.get_running_loop().time
        mark, told = self.mark, -math.inf
        while not closing.is_set():
            news, some = self.feed.news, self.feed.since(mark)
            mark = mark if some else self.feed.end
            if some is None or told == -math.inf:
                hello = {"release": stint.__version__, "resumed": some is not None}
                yield streaming.event("hello", hello, event_id=str(mark))
                told = clock()
            if not some:
                await any_of(news, closing, within=max(0, told + TICK - clock()))
            elif (permitted := await self._permitted(some)) is None:
                await any_of(closing, within=AGAIN)
            else:
                for change in permitted:
                    yield self._encoded(change, mark.bucket)
                    told = clock()
                mark = mark._replace(revision=some[-1].revision)
            if clock() >= told + TICK:  # also while others' changes come all the time
                yield f"id: {mark}\n".encode() + streaming.PING
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
