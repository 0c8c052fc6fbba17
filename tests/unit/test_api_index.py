import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError
from stint.core.job import TERMINAL, State
from stint.core.view import NEVER, JobView, parse_time
from stint.ports import StoredView, StreamState
from stint.process.background import Background, BackgroundTask
from stint.testing import MemoryViews
from stint_api.read.listing import table as table_module
from stint_api.read.listing.feed import Change
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.query import Counts, Found, Page, Queues, Wanted
from stint_api.read.listing.sql import MemoryTable, as_json, lists
from stint_api.read.listing.table import Table
from tests.support.views import RETENTION, empty, filled, job_view, stored
from tests.support.waiting import meanwhile, until

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ALL = Page(limit=1000)
AT_ONCE = partial(asyncio.sleep, 0)


def views_of(found: Found) -> list[JobView]:
    """The same views in the form that is not the table's."""
    return [JobView(**msgspec.structs.asdict(job)) for job in found.jobs]


def selected(jobs: Sequence[JobView], page: Page, readable: str) -> list[JobView]:
    """The whole list of which the page is a part, as a walk over all jobs finds it."""
    wanted = page.wanted
    found = [
        job
        for job in jobs
        if job.qname in readable
        and wanted.qname in {None, job.qname}
        and wanted.status in {None, job.status}
        and wanted.held in {None, job.held}
        and (wanted.submitted_after is None or parse_time(job.submitted) > wanted.submitted_after)
        and (wanted.submitted_before is None or parse_time(job.submitted) < wanted.submitted_before)
        and (wanted.since is None or parse_time(job.submitted) >= wanted.since)
        and (wanted.until is None or parse_time(job.submitted) < wanted.until)
        and (wanted.id is None or job.job_id.startswith(wanted.id) or job.job_id.endswith(wanted.id))
        and (wanted.image is None or wanted.image in job.container_image)
        and wanted.who in {None, job.submitted_by}
        and (wanted.q is None or wanted.q.casefold() in f"{job.reason} {job.error}".casefold())
    ]
    return sorted(found, key=lambda job: (job.submitted, job.job_id), reverse=True)


_STATUSES = st.sampled_from(["queued", "running", "failed", "gone", "junk"])
_CHANGES = st.lists(st.tuples(st.integers(0, 5), _STATUSES, st.sampled_from("ab"), st.booleans(), st.integers(-8, 0)))


@given(st.lists(_CHANGES, max_size=3), st.integers(0, 2))
def test_the_counts_are_what_a_walk_finds(pages: list[list[tuple[int, str, str, bool, int]]], complete_at: int) -> None:
    table, junk = Table(RETENTION), set[int]()
    for number, changes in enumerate([*pages, [], [], []][:3]):
        if number == complete_at:
            table.complete()
        entries = list[StoredView]()
        for job, status, qname, held, hours in changes:
            junk.discard(job)
            if status in {"gone", "junk"}:
                value = b"junk" if status == "junk" else None
                entries.append(StoredView(job_id=f"{job:024x}", revision=1, value=value))
                if value:
                    junk.add(job)
                continue
            ended = (NOW + timedelta(hours=hours)).isoformat() if status == "failed" else NEVER
            entries.append(stored(job_view(job, qname=qname, status=status, ended=ended, held=held)))
        if entries:
            table.apply(entries)
    table.expire(NOW)
    jobs = table.find(ALL).jobs
    assert table.counts() == Counts(
        by_status=Counter(job.status for job in jobs),
        queues=len({job.qname for job in jobs if job.status not in TERMINAL}),
        held=sum(job.held for job in jobs),
        unreadable=len(junk),
    )
    assert {name for _, name in table.queues(0)} == {job.qname for job in jobs}
    assert all(job.ended == NEVER or datetime.fromisoformat(job.ended) + RETENTION > NOW for job in jobs)


def searched(number: int, job_id: str, image: str, who: str, error: str, **fields: Any) -> JobView:
    found = {"job_id": job_id, "container_image": image, "submitted_by": who, "error": error}
    return msgspec.structs.replace(job_view(number, **fields), reason="failed" if error else "", **found)


_IDS = ("0" * 24, "ab" * 12, "cd" * 12, "ab" * 11 + "cd", "a" * 24, "f" * 23 + "b")
_JOBS = st.lists(
    st.builds(
        searched,
        st.integers(0, 30),
        st.sampled_from(_IDS),
        st.sampled_from(["busybox", "alpine:3", "example:5000/alpine"]),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["", "no Stra\u00dfe", '100% it\'s \0 "x"']),
        qname=st.sampled_from("abc"),
        status=st.sampled_from(["queued", "failed", "success"]),
        held=st.booleans(),
    ),
    max_size=20,
    unique_by=lambda job: job.job_id,
)
_TIMES = st.integers(0, 60).map(lambda half: datetime(2026, 1, 1, tzinfo=UTC) + half * timedelta(seconds=0.5))
_FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "qname": st.sampled_from("abcd"),
    "status": st.sampled_from([State.QUEUED, State.FAILED]),
    "held": st.booleans(),
    **dict.fromkeys(["submitted_after", "submitted_before", "since", "until"], _TIMES),
    "id": st.sampled_from(["a", "b", "ab", "bab", "cd", "bcd", "a" * 23, "0" * 24, "e", "abc", *_IDS]),
    "image": st.sampled_from(["alpine", "box", ":", "%"]),
    "who": st.sampled_from(["ann", "an"]),
    "q": st.sampled_from(["STRASSE", "failed", "it's", "%", "\0", '"X"', "_"]),
}
_WANTED = st.lists(st.one_of([st.tuples(st.just(name), values) for name, values in _FILTERS.items()]), max_size=3).map(
    lambda filters: Wanted(**dict(filters))
)


@given(_JOBS, _WANTED, st.sets(st.sampled_from("abc")), st.booleans(), st.sampled_from([0, 1000]))
def test_pages_agree_with_walks(jobs: list[JobView], wanted: Wanted, readable: set[str], shown: bool, few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "FEW", few)
        table = filled(*(msgspec.structs.replace(job, submitted=job.submitted[:19] + "Z") for job in jobs))
        numbers = [number for number, name in table.queues(0) if (name in readable) == shown]
        through = max((number for number, _ in table.queues(0)), default=0)
        queues = Queues(through=through, **{"shown" if shown else "hidden": msgspec.json.encode(numbers).decode()})
        whole = selected(table.find(ALL).jobs, Page(wanted=wanted, limit=1), "".join(readable))
        any_status = Page(wanted=replace(wanted, status=None), limit=1)
        found = list[JobView]()
        part = table.find(Page(wanted=wanted, queues=queues, limit=3))
        while part.next:
            found += part.jobs
            assert part.total == len(whole)
            part = table.find(Page(wanted=wanted, queues=queues, limit=3, behind=part.next))
        found += part.jobs
        assert part.total == len(whole)
        assert found == whole
        assert list(table.find(Page(wanted=wanted, queues=queues, limit=5, skip=2)).jobs) == whole[2:7]
        counted = table.find(Page(wanted=wanted, queues=queues, limit=5, counted=True))
        assert (counted.jobs, counted.total) == (whole[:5], len(whole))
        counted_jobs = selected(table.find(ALL).jobs, any_status, "".join(readable))
        assert counted.counts == Counter(job.status for job in counted_jobs)


def test_a_queue_that_came_after_the_answer_is_not_shown() -> None:
    table = filled(job_view(1, qname="a"))
    queues = Queues(through=1, hidden="[]")
    table.apply([stored(job_view(2, qname="b"))])
    found = table.find(Page(queues=queues, limit=10))
    assert (found.total, [job.qname for job in found.jobs]) == (1, ["a"])


def test_a_text_that_one_job_leaves_and_another_takes_in_the_same_page_is_found() -> None:
    ids = [f"{number:024x}" for number in (1, 2)]
    table = filled(searched(1, ids[0], "left:1", "ann", ""))
    moved, new = searched(1, ids[0], "other:1", "ann", ""), searched(2, ids[1], "left:1", "ann", "")
    table.apply([stored(moved), stored(new)])
    assert [job.job_id for job in table.find(Page(wanted=Wanted(image="left"), limit=10)).jobs] == [ids[1]]
    table.apply([StoredView(ids[1], 9, None)])
    table.apply([stored(searched(3, "3" * 24, "last:1", "ann", ""))])  # with the number that is free again, if it is
    assert table.find(Page(wanted=Wanted(image="left"), limit=10)).total == 0


def test_a_queue_without_jobs_is_forgotten_and_its_number_not_used_again() -> None:
    table = filled(job_view(1, qname="a"), job_view(2, qname="b"))
    assert table.queues(0) == [(1, "a"), (2, "b")]
    table.apply([StoredView(f"{number:024x}", 2, None) for number in (1, 2)])
    assert table.queues(0) == []
    table.apply([stored(job_view(3, qname="b"))])
    assert table.queues(0) == [(3, "b")]


async def test_no_number_of_a_queue_is_used_again_when_the_task_was_begun_again() -> None:
    """It is remembered for some seconds which numbers a caller may see."""
    views = MemoryViews()
    index, numbers = ListIndex(views, connected=AT_ONCE, retention=RETENTION, now=lambda: NOW), list[int]()
    for revision, qname in enumerate("ab"):
        await views.put(job_view(1).job_id, encode(job_view(1, qname=qname)), revision=revision, ttl=None)
        index.ready.clear()
        async with meanwhile(index.run()):
            await index.ready.wait()
            numbers += [number for number, _ in await index.ask(lambda table: table.queues(0))]
    assert len(set(numbers)) == 2


UNREADABLE: list[dict[str, Any]] = [
    {"ended": "yesterday"}, {"ended": ""}, {"ended": "0001-01-01T00:00:00+01:00"},
    {"started": "x"}, {"started": "9999-12-31T23:59:59-01:00"}, {"submitted": "2026-13-01T00:00:00Z"},
    {"submission": 1 << 63}, {"submission": -(1 << 63) - 1}, {"output_bytes": 10**400},
    {"qname": "a\tb"}, {"job_id": "f" * 24}, {"job_id": "x"},
]  # fmt: skip


async def test_views_that_cannot_be_read_are_left_out_and_counted() -> None:
    views, good, mended = MemoryViews(), job_view(1), job_view(2)
    await views.put(good.job_id, encode(good), revision=0, ttl=None)
    for number, changes in enumerate(UNREADABLE, start=2):
        value = stored(job_view(number), **changes).value
        assert value is not None
        await views.put(job_view(number).job_id, value, revision=0, ttl=None)
    async with indexed(views) as index:
        assert views_of(await index.find(ALL)) == [good]
        unreadable = len(UNREADABLE)
        assert await index.counts() == Counts(by_status={State.QUEUED: 1}, queues=1, held=0, unreadable=unreadable)
        await views.put(mended.job_id, encode(mended), revision=2, ttl=None)
        await until(index.counts, lambda counts: counts.unreadable == unreadable - 1)
        assert views_of(await index.find(ALL)) == [mended, good]


@asynccontextmanager
async def indexed(views: MemoryViews, now: Callable[[], datetime] = lambda: NOW) -> AsyncIterator[ListIndex]:
    index = ListIndex(views, connected=AT_ONCE, retention=RETENTION, now=now)
    async with Background(BackgroundTask(name="index", run=index.run, missing="The list.")).running():
        await index.ready.wait()
        yield index


async def test_expiry_needs_no_message() -> None:
    views, moment, job = MemoryViews(), NOW, job_view(1, status="failed", ended=NOW.isoformat())
    await views.put(job.job_id, encode(job), revision=0, ttl=None)
    async with indexed(views, lambda: moment) as index:
        assert (await index.counts()).by_status[State.FAILED] == 1
        moment += RETENTION
        assert (await index.counts()).by_status[State.FAILED] == 0


async def test_changes_that_come_one_after_another_are_applied_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, apply, views = list[int](), Table.apply, MemoryViews()

    def noted(table: Table, entries: Sequence[StoredView]) -> Sequence[Change]:
        sizes.append(len(entries))
        return apply(table, entries)

    monkeypatch.setattr(Table, "apply", noted)
    monkeypatch.setattr("stint_api.read.listing.index.TOGETHER", 1.0)
    async with indexed(views) as index:
        for number in (1, 2, 3):
            await views.put(job_view(number).job_id, encode(job_view(number)), revision=0, ttl=None)
            await index.counts()  # so long each could have been applied by itself
        await until(lambda: index.find(ALL), lambda found: found.total == 3)
    assert sizes == [3]


class Broken(MemoryViews):
    """Every follower can be broken off; where each began is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.began_after: list[int] = []
        self.broken = asyncio.Event()

    @asynccontextmanager
    async def follow(self, *, after: int = 0) -> AsyncIterator[AsyncIterator[list[StoredView]]]:
        self.began_after.append(after)
        async with super().follow(after=after) as pages:
            yield self._until_broken(pages)

    async def _until_broken(self, pages: AsyncIterator[list[StoredView]]) -> AsyncIterator[list[StoredView]]:
        async for page in pages:
            yield page
            if not page:
                await self.broken.wait()
                self.broken.clear()
                raise BrokerUnavailableError


async def test_after_an_outage_it_continues_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_api.read.listing.index.RETRY_PAUSE", 0)
    views = Broken()
    await views.put(job_view(1).job_id, encode(job_view(1)), revision=0, ttl=None)
    async with indexed(views) as index:
        await views.put(job_view(2).job_id, encode(job_view(2)), revision=0, ttl=None)
        views.broken.set()
        await until(lambda: index.find(ALL), lambda found: found.total == 2)
        assert views.began_after == [0, 1]
        views.deletions_kept = 0.0
        views.expire(job_view(1).job_id)
        views.broken.set()
        await until(lambda: index.find(ALL), lambda found: found.total == 1)
        assert views.began_after == [0, 1, 0]


@pytest.mark.parametrize(
    ("state", "whole"),
    [
        (StreamState("", 5, 9), True),
        (StreamState("", 5, 20), True),
        (StreamState("", 6, 9), False),
        (StreamState("", 6, 20), True),
        (StreamState("", 1, 8), False),
    ],
)
def test_views_that_disappear_without_a_message_are_noticed(state: StreamState, whole: bool) -> None:
    table = empty()
    table.apply([stored(job_view(number))._replace(revision=number) for number in (5, 9)])
    assert table.is_whole(state) is whole


async def test_without_a_complete_table_nothing_is_answered() -> None:
    index = ListIndex(MemoryViews(), connected=AT_ONCE, retention=RETENTION, now=lambda: NOW)
    with pytest.raises(BrokerUnavailableError):
        await index.find(ALL)
    with pytest.raises(BrokerUnavailableError):
        await index.counts()


def test_whatever_is_sorted_needs_no_disk() -> None:
    """Where none can be written, as in a container without `/tmp`, each such answer would fail."""
    db = MemoryTable("CREATE TABLE job (id BLOB)")._db  # noqa: SLF001 - what its subclasses ask
    db.execute("INSERT INTO job SELECT randomblob(500) FROM json_each(?)", (as_json([0] * 8000),))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        assert len(lists(db, "id, jobs", "SELECT hex(id) AS id, count(*) AS jobs FROM job GROUP BY 1", ())) > 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
