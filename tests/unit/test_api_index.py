import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.codec import encode
from stint.core.job import TERMINAL, State
from stint.core.view import NEVER, JobView
from stint.ports import StoredView
from stint.process.background import Background, BackgroundTask, cancel
from stint.testing import MemoryViews
from stint_api.read.index import SLICE, Counts, ListIndex, _Views
from tests.support.views import job_view

RETENTION = timedelta(hours=6)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def stored(job: JobView, **changes: object) -> StoredView:
    value = encode(msgspec.structs.replace(job, **changes))
    return StoredView(job_id=job.job_id, revision=1, value=value)


def walked(views: _Views) -> Counts:
    """What a walk over all of them finds."""
    jobs = list(views)
    return Counts(
        by_status=Counter(job.status for job in jobs),
        queues=len({job.qname for job in jobs if job.status not in TERMINAL}),
        held=sum(job.held for job in jobs),
        unreadable=views.counts().unreadable,
    )


_CHANGES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["queued", "running", "failed", "gone", "junk"]),
        st.sampled_from("ab"),
        st.booleans(),
        st.integers(-8, 0),
    )
)


@given(_CHANGES)
def test_the_counts_are_what_a_walk_finds(changes: list[tuple[int, str, str, bool, int]]) -> None:
    views, junk = _Views(RETENTION), set()
    for number, status, qname, held, hours in changes:
        junk.discard(number)
        if status in {"gone", "junk"}:
            value = b"junk" if status == "junk" else None
            views.apply(StoredView(job_id=f"{number:024x}", revision=1, value=value))
            if value:
                junk.add(number)
            continue
        ended = (NOW + timedelta(hours=hours)).isoformat() if status == "failed" else NEVER
        views.apply(stored(job_view(number, qname=qname, status=status, ended=ended, held=held)))
    views.expire(NOW)
    assert views.counts() == walked(views)
    assert views.counts().unreadable == len(junk)
    assert all(job.ended == NEVER or datetime.fromisoformat(job.ended) + RETENTION > NOW for job in views)


@pytest.mark.parametrize(
    "changes",
    [
        {"ended": "yesterday"},
        {"ended": ""},
        {"submitted": "2026-13-01T00:00:00Z"},
        {"started": "x"},
        {"qname": "a\tb"},
        {"job_id": "f" * 24},
    ],
)
async def test_a_view_that_cannot_be_read_is_left_out_and_counted(changes: dict[str, str]) -> None:
    views = MemoryViews()
    good, bad = job_view(1), job_view(2)
    for job in (good, bad):
        await views.put(job.job_id, encode(job), revision=0, ttl=None)
    value = stored(bad, **changes).value
    assert value is not None
    await views.put(bad.job_id, value, revision=2, ttl=None)
    index = ListIndex(views, connected=_at_once, retention=RETENTION, now=lambda: NOW)
    async with Background(BackgroundTask(name="index", run=index.run, missing="The list.")).running():
        await index.ready.wait()
        assert await index.jobs(every) == [good]
        assert index.counts() == Counts(by_status={State.QUEUED: 1}, queues=1, held=0, unreadable=1)
        await views.put(bad.job_id, encode(bad), revision=3, ttl=None)
        async with asyncio.timeout(5):
            while index.counts().unreadable:  # noqa: ASYNC110 - nobody says when a change was taken in
                await asyncio.sleep(0)
        assert await index.jobs(every) == [bad, good]


async def test_a_long_list_lets_others_have_their_turn() -> None:
    views = MemoryViews()
    for number in range(10 * SLICE):
        job = msgspec.structs.replace(job_view(0), job_id=f"{number:024x}")
        await views.put(job.job_id, encode(job), revision=0, ttl=None)
    index, turns = ListIndex(views, connected=_at_once, retention=RETENTION, now=lambda: NOW), 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Background(BackgroundTask(name="index", run=index.run, missing="The list.")).running():
        await index.ready.wait()
        other = asyncio.create_task(take_turns())
        assert len(await index.jobs(every)) == 10 * SLICE
        await cancel(other)
    assert turns >= 9


async def _at_once() -> None:
    return


def every(_job: JobView) -> bool:
    return True


def test_counting_takes_the_same_time_however_many_jobs_there_are() -> None:
    def seconds(jobs: int) -> float:
        views = _Views(RETENTION)
        for number in range(jobs):
            job = msgspec.structs.replace(job_view(0), job_id=f"{number:024x}")
            views.apply(stored(job))
        best = float("inf")
        for _ in range(50):
            begin = time.perf_counter()
            views.expire(NOW)
            views.counts()
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(5000) < 10 * seconds(50)
