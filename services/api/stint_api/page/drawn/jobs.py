"""The list of jobs: the filters of its address, as the API takes them, and a page of what it answers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError

from stint.core.view import NEVER, rfc3339
from stint_api.auth import Identity
from stint_api.errors import invalid
from stint_api.page.drawn import Row, words
from stint_api.read.listing.query import Found, Page
from stint_api.read.standing import NO_STANDING
from stint_api.routes import documents
from stint_api.routes.parameters import JobQuery, cursor
from stint_api.services import Services

Q = TypeVar("Q", bound=BaseModel)

PAGE: Final = 50
"""Rows on a page."""
SINCE: Final[Mapping[str, tuple[str, timedelta]]] = {
    "15m": ("Last 15 min", timedelta(minutes=15)),
    "1h": ("Last hour", timedelta(hours=1)),
    "6h": ("Last 6 hours", timedelta(hours=6)),
    "24h": ("Last day", timedelta(hours=24)),
}

KINDS: Final = ("queued", "running", "held", "stopping", "failed", "notauthorised", "unknown", "success")
STALE: Final = 10.0
"""Seconds from which a list says how old it is."""
_SCRIPTED: Final = ("qname", "status", "held", "node_uuid", "started", "ended", "kill_requested_at", "kill_grace")
"""What scripts know of a drawn job, until they hear more of it: for its clocks, and for what is done with it."""
_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_PART_OF_ID: Final = re.compile(r"[0-9a-fA-F]{6,24}")


class Filters(ABC):
    """What the address of a view with a list asks for. `names` are its filters', in the order of an address."""

    path: ClassVar[str]
    names: ClassVar[Sequence[str]]
    size = PAGE
    spans = SINCE

    def __init__(self, query: Mapping[str, str]) -> None:
        """`query` is the address' own."""
        self.given = {name: query.get(name, "").strip() for name in self.names}
        self.cursor = query.get("after", "")

    @property
    def span(self) -> timedelta | None:
        """Only what is as late as that."""
        return SINCE[self.given["since"]][1] if self.given["since"] in SINCE else None

    def address(self, **changed: object) -> str:
        """The same view with other filters, or another page of it."""
        query = urlencode({name: value for name, value in {**self.given, **changed}.items() if value})
        return f"{self.path}?{query}" if query else self.path

    def asked(self) -> dict[str, str]:
        """What the API is asked, but for `since`, which is another time whenever it is asked."""
        every = {**self.parameters(), "cursor": self.cursor}
        return {"limit": str(PAGE)} | {name: value for name, value in every.items() if value}

    @abstractmethod
    def parameters(self) -> Mapping[str, str]:
        """The filters as parameters of the API; empty ones are not asked for."""

    def query(self, shape: type[Q], now: datetime) -> Q:
        """What the API is asked now. Raises UndecodableError if there is no such page."""
        since = {"since": rfc3339(now - self.span)} if self.span else {}
        try:
            return shape.model_validate(self.asked() | since)
        except ValidationError as error:
            raise invalid(error.errors()) from None


def row(job: words.Fields, now: float) -> Row:
    """A job of the API's answer. What scripts need of it stands in the row."""
    submitted, started, ended = (words.at(job[name]) for name in ("submitted", "started", "ended"))
    until = ended if words.is_over(job) else now
    return {
        "job_id": job["_id"],
        "fields": _fields(job),
        "kind": words.kind(job),
        "qname": job["qname"] or "(no name)",
        "sentence": words.sentence(job, now),
        "image": "/".join(job["container_image"].split("/")[-2:]),
        "by": job["submitted_by"],
        "submitted": job["submitted"],
        "ago": words.ago(now - submitted),
        "waited": words.duration((started or until) - submitted),
        "took": words.duration(until - started) if started else "",
        "runner": job["node_uuid"],
    }


def _fields(job: words.Fields) -> str:
    return documents.whole({name: job[name] for name in _SCRIPTED if job[name] not in {"", NEVER, 0}}).decode()


class Listed(Filters):
    """What the address of a list asks for."""

    path = "/jobs"
    names = ("status", "queue", "image", "by", "since", "q")

    def __init__(self, query: Mapping[str, str]) -> None:
        super().__init__(query)
        self._at = query.get("at", "")

    @property
    def job_id(self) -> str:
        """The whole id that is searched for, "" for any other search."""
        return self.given["q"].lower() if _ID.fullmatch(self.given["q"]) else ""

    @property
    def skipped(self) -> int:
        """How many jobs the pages before it had, as they say."""
        return int(self._at) if re.fullmatch(r"[0-9]{1,9}", self._at) else 0

    def parameters(self) -> Mapping[str, str]:
        """Those of the API's list."""
        given, held = self.given, self.given["status"] == "held"
        return {
            "status": "" if held else given["status"],
            "held": "true" if held else "",
            "qname": given["queue"],
            "image": given["image"],
            "who": given["by"],
            "id" if _PART_OF_ID.fullmatch(given["q"]) else "q": given["q"],
            "counts": "" if held else "1",
        }

    async def find(self, services: Services, caller: Identity) -> Row:
        """The page that it asks for, as the caller may see it.

        A stream of changes that begins at its `mark` misses none. `older` is the cursor of the next page, `stale` how
        old the list is, if that is more than a moment; "" if there is none, or it is not.
        """
        now, mark = services.now(), str(services.index.feed.end)
        page = self.query(JobQuery, now).page
        found = await services.lists.find(caller, page)
        standings = await services.standings.of(found.jobs)
        shown = (documents.fields(job, standings.get(job.job_id, NO_STANDING)) for job in found.jobs)
        counts, age = await _counts(services, caller, page, found), (now - services.index.as_of).total_seconds()
        return {
            "mark": mark,
            "rows": [row(job, now.timestamp()) for job in shown],
            "total": found.total,
            "counts": counts,
            "older": cursor(found.next),
            "stale": words.duration(age) if age > STALE else "",
        }

    def kinds(self, found: Row | None) -> Iterator[tuple[str, str, int, bool]]:
        """The links to each status: its name, its word, how many there are, and whether it is shown."""
        counts = found["counts"] if found else {}
        yield "", "All", sum(number for name, number in counts.items() if name != "held"), True
        for name in KINDS:
            number = counts.get(name, 0)
            yield name, words.WORDS[name], number, number > 0 or self.given["status"] == name


async def _counts(services: Services, caller: Identity, page: Page, found: Found) -> dict[str, int]:
    """How many jobs pass the filters but that for the status, by status, and how many of them are `held`."""
    rest = replace(page, limit=1, behind=None, counted=found.counts is None)
    wanted = replace(page.wanted, status=None, held=None if rest.counted else True)
    other = await services.lists.find(caller, replace(rest, wanted=wanted))
    counts, held = (other.counts, found.total) if rest.counted else (found.counts, other.total)
    return {state.value: number for state, number in (counts or {}).items()} | {"held": held}
