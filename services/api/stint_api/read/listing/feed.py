"""The last changes of the views, kept once for all who listen in this process."""

import asyncio
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from stint.core.job import State
from stint.core.view import JobView
from stint.ports import StoredView
from stint_api.read.listing.query import STATES

KEPT: Final = 4096
"""Changes that a client may be behind, slow or away: about 2 KiB of memory each."""
SPARE: Final = 1024
"""Changes beyond that until the oldest are dropped."""
AT_ONCE: Final = 256
"""Changes that are given at a time."""

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
    """A view that was written or removed.

    Attributes:
        view: None if the job was deleted or has expired.
        was: its status before, None for a new job.
        encoded: the event that tells it, once somebody has made it.
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

    Attributes:
        news: set when there is more, which has another event.
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
