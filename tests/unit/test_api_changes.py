"""The stream of all jobs' changes: what a client knows after it is what a list would say."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.codec import encode
from stint.core.errors import VaultUnavailableError
from stint.core.job import State
from stint.core.view import JobView
from stint.ports import StoredView
from stint_api.read.listing import feed
from stint_api.read.listing.feed import Change, Feed, Interest, LiveChanges, Mark
from stint_api.read.listing.query import Page, Wanted
from stint_api.read.listing.table import Table
from stint_api.routes import documents
from stint_api.web import streaming
from tests.support.views import empty, job_view
from tests.unit.test_api_index import NOW, Broken, indexed

ANY = Interest()
streaming_event = streaming.event


class Views:
    """The views as one API process has them."""

    def __init__(self) -> None:
        self.table: Table = empty()
        self.feed = Feed()
        self.read_anew()

    def read_anew(self) -> None:
        self.feed.restart("2026-01-01T00:00:00.5Z", self.table.sequence)

    def apply(self, *entries: tuple[int, JobView | None]) -> None:
        found = [
            StoredView(f"{number:024x}", self.table.sequence + count, encode(job) if job else None)
            for count, (number, job) in enumerate(entries, start=1)
        ]
        if found:
            self.feed.add(self.table.apply(found), self.table.sequence)

    def listed(self, interest: Interest, readable: Collection[str]) -> dict[str, Any]:
        wanted = Wanted(qname=interest.qname, status=interest.status)
        jobs = self.table.find(Page(wanted=wanted, limit=1000)).jobs
        return {job.job_id: documents.fields(job) for job in jobs if job.qname in readable}


class Client:
    """Knows the jobs, as a page does that never reads the list unless it has to."""

    def __init__(self, views: Views, interest: Interest = ANY, readable: Collection[str] = "ab") -> None:
        self._views = views
        self._interest = interest
        self._readable = readable
        self.position = ""
        self.known: dict[str, Any] = {}
        self.heard: list[str] = []
        self.vault_is_away = False

    async def readable(self, qnames: Collection[str]) -> Collection[str]:
        if self.vault_is_away:
            self.vault_is_away = False
            raise VaultUnavailableError("away")
        return set(qnames) & set(self._readable)

    def stream(self) -> LiveChanges:
        mark, render = Mark.parse(self.position), documents.fields
        return LiveChanges(self._views.feed, mark, self._interest, readable=self.readable, render=render)

    async def catch_up(self, events: int = 10_000) -> None:
        """Up to a ping behind all changes, or until the connection breaks after so many events."""
        async with aclosing(self.stream().events(asyncio.Event())) as stream:
            async for raw in stream:
                fields = dict(line.split(": ", 1) for line in raw.decode().strip().split("\n") if line[0] != ":")
                self.position = fields["id"]
                if "event" not in fields:
                    if self.position == str(self._views.feed.end):
                        return
                    continue
                self._take(fields["event"], json.loads(fields["data"]))
                events -= 1
                if not events:
                    return

    def _take(self, name: str, data: Any) -> None:
        self.heard.append(name)
        match name:
            case "hello" if not data["resumed"]:
                self.known = self._views.listed(self._interest, self._readable)
            case "job" if self._interest.status in {None, data["status"]}:
                assert data["qname"] in self._readable
                self.known[data["_id"]] = data
            case "job" | "gone":
                self.known.pop(data["_id"], None)


@pytest.fixture(autouse=True)
def _pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "TICK", 0)
    monkeypatch.setattr(feed, "AGAIN", 0)


_STATUSES = st.sampled_from(["queued", "running", "success", "expired", "gone"])
_ENTRIES = st.lists(st.tuples(st.integers(0, 4), _STATUSES), min_size=1, max_size=6)


def _view(number: int, status: str) -> JobView | None:
    qname = "ab"[number % 2]
    match status:
        case "gone":
            return None
        case "expired":
            return job_view(number, qname=qname, status="failed", ended="2025-01-01T00:00:00Z")
    return job_view(number, qname=qname, status=status)


@given(
    st.lists(st.tuples(_ENTRIES, st.booleans(), st.integers(1, 4)), max_size=6),
    st.builds(Interest, qname=st.sampled_from([None, "a"]), status=st.sampled_from([None, State.RUNNING])),
    st.sampled_from(["ab", "a", "b"]),
    st.sampled_from([2, 1000]),
)
async def test_a_client_knows_what_a_list_would_say_wherever_its_stream_breaks(
    pages: list[tuple[Any, bool, int]], interest: Interest, readable: str, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "KEPT", kept)
        patch.setattr(feed, "SPARE", 0)
        views = Views()
        client = Client(views, interest, readable)
        for entries, expires_first, breaks_after in pages:
            views.apply(*((number, _view(number, status)) for number, status in entries))
            if expires_first:
                views.table.expire(NOW)
            await client.catch_up(breaks_after)
        there = views.listed(ANY, "ab")  # what has expired is deleted from the bucket, too
        views.apply(*((number, None) for number in range(5) if f"{number:024x}" not in there))
        await client.catch_up()
        assert client.known == views.listed(interest, readable)
        if kept == 1000:
            assert client.position.endswith(f"-{views.table.sequence}")
            assert len([name for name in client.heard if name == "hello"]) == len(pages) + 1


async def test_nothing_is_missed_while_vault_does_not_answer() -> None:
    views = Views()
    client = Client(views)
    await client.catch_up()
    views.apply((1, job_view(1)))
    client.vault_is_away = True
    await client.catch_up()
    assert client.heard == ["hello", "hello", "job"]


class BusyFeed(Feed):
    """Whenever somebody looks for changes, there is one of another's job."""

    def __init__(self) -> None:
        super().__init__()
        self.restart("2026-01-01T00:00:00.5Z", 0)

    def since(self, mark: Mark) -> Sequence[Change] | None:
        revision = self.end.revision + 1
        assert revision < 100
        self.add([Change(revision, f"{1:024x}", "b", job_view(1, qname="b"), None)], revision)
        return super().since(mark)


@pytest.mark.parametrize("interest", [Interest(qname="a"), ANY])
async def test_a_client_is_pinged_though_changes_of_others_come_all_the_time(interest: Interest) -> None:
    async def readable(qnames: Collection[str]) -> Collection[str]:
        return set(qnames) & {"a"}

    live = LiveChanges(BusyFeed(), Mark.parse(""), interest, readable=readable, render=documents.fields)
    async with aclosing(live.events(asyncio.Event())) as stream:
        assert b"event: hello" in await anext(stream)
        assert await anext(stream) == b"id: 202601010000005-1\n: ping\n\n"
        assert await anext(stream) == b"id: 202601010000005-2\n: ping\n\n"


async def test_an_event_is_made_once_for_all_who_hear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[str]()

    def event(name: str, data: Mapping[str, Any], *, event_id: str = "") -> bytes:
        made.append(name)
        return streaming_event(name, data, event_id=event_id)

    monkeypatch.setattr(streaming, "event", event)
    views = Views()
    clients = [Client(views) for _ in range(10)]
    for client in clients:
        await client.catch_up()
    views.apply((1, job_view(1)))
    for client in clients:
        await client.catch_up()
        assert client.heard[-1] == "job"
    assert made.count("job") == 1


@pytest.mark.parametrize("position", ["", "x", "202601010000005-9", "1-0", "202601010000005--1", f"1-{'9' * 50}"])
async def test_any_other_position_is_too_old(position: str) -> None:
    views = Views()
    views.apply((1, job_view(1)))
    client = Client(views)
    client.position = position
    await client.catch_up()
    assert (client.heard, list(client.known)) == (["hello"], [f"{1:024x}"])
    assert client.position == "202601010000005-1"


async def test_the_index_feeds_it_and_says_when_it_had_to_read_all_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_api.read.listing.index.RETRY_PAUSE", 0)
    monkeypatch.setattr(feed, "TICK", 10)
    store = Broken()
    async with indexed(store) as index:
        live = LiveChanges(index.feed, Mark.parse(""), Interest(), readable=_all, render=documents.fields)
        async with asyncio.timeout(10), aclosing(live.events(asyncio.Event())) as stream:
            assert b"event: hello" in await anext(stream)
            await store.put(job_view(1).job_id, encode(job_view(1)), revision=0, ttl=None)
            store.broken.set()
            assert b"event: job" in await anext(stream)
            store.expire(job_view(1).job_id)
            store.broken.set()
            assert b'"resumed":false' in await anext(stream)


async def _all(qnames: Collection[str]) -> Collection[str]:
    return qnames
