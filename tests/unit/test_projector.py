"""The projector on the ports in memory: whatever the feed does, the view is the fold of the log, rebuilt or not."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.codec import encode
from stint.core.events import AnyEvent, Record
from stint.core.job import Job, State, fold
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.core.output.chain import Chunk
from stint.core.view import JobView, view
from stint.jetstream import Delivered, EventFeed
from stint.ports import StoredView, ViewPut
from stint.testing import MemoryEventLog, MemoryOutput, MemoryPayloads, MemoryViews
from stint_projector.follower import Follower
from stint_projector.project import Projected, Projector
from stint_projector.rebuild import rebuild
from tests.support.brokers import loaded
from tests.support.events import (
    TOKEN,
    deleted,
    ended,
    held,
    kill_requested,
    launched,
    rejected,
    released,
    started,
    submitted,
)

JOB = "0123456789abcdef01234567"
JOBS = [f"{number:024x}" for number in range(3)]


class Bench:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.log = MemoryEventLog(now=lambda: self.now)
        self.views, self.payloads, self.output = MemoryViews(), MemoryPayloads(now=lambda: self.now), MemoryOutput()
        self.projector = self.another()

    def another(self) -> Projector:
        return Projector(
            log=self.log, views=self.views, payloads=self.payloads, output=self.output,
            retention=timedelta(hours=6), now=lambda: self.now,
        )  # fmt: skip

    async def happen(self, *events: AnyEvent, job_id: str = JOB) -> None:
        for event in events:
            assert (await self.log.append(TOKEN, job_id, event)).value == "won"
            await self.projector.project(job_id)

    async def print(self, job_id: str = JOB, token: str = TOKEN) -> None:
        chunk = Chunk(number=1, offset=0, stream="stdout", digest="d", data=b"x")
        await self.output.append(token, job_id, chunk, after=0)

    def noting_loads(self) -> list[tuple[str, int]]:
        """What is asked of the log from now on: which job, and up to which event at least."""
        load, asked = self.log.load, list[tuple[str, int]]()

        async def noting(job_id: str, *, at_least: int = 0) -> Job | None:
            asked.append((job_id, at_least))
            return await load(job_id, at_least=at_least)

        self.log.load = noting  # type: ignore[method-assign] # this log is the test's own
        return asked

    async def store_view(self, job_id: str, value: bytes) -> None:
        """In place of what is there."""
        stored = await self.views.get(job_id)
        await self.views.put(job_id, value, revision=stored.revision if stored else 0, ttl=None)

    async def value(self, job_id: str = JOB) -> bytes | None:
        stored = await self.views.get(job_id)
        return stored.value if stored else None

    async def expected(self, job_id: str = JOB) -> bytes:
        job = await self.log.load(job_id)
        assert job is not None
        return encode(view(job))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_view_that_is_up_to_date_or_has_expired_is_not_written_again(bench: Bench) -> None:
    await bench.happen(submitted(), started(), ended())
    before = await bench.views.get(JOB)
    await bench.projector.project(JOB)
    assert await bench.views.get(JOB) == before
    bench.views.expire(JOB)
    bench.now += timedelta(hours=7)
    await bench.projector.project(JOB)
    assert await bench.views.get(JOB) is None, "not even for a moment"


async def test_of_jobs_that_are_projected_together_only_what_is_over_is_loaded_and_goes(bench: Bench) -> None:
    jobs = list[Job]()
    for job_id, end in zip(JOBS, (None, ended(), deleted()), strict=True):
        for event in (submitted(), *((end,) if end else ())):
            await bench.log.append(TOKEN, job_id, event)
        await bench.payloads.put(TOKEN, job_id, b"sealed")
        await bench.views.put(job_id, b"{}", revision=0, ttl=None)
        jobs.append(await loaded(bench.log, job_id))
    before = [await bench.views.get(job_id) for job_id in JOBS]
    known = [Projected(job, stored.revision) for job, stored in zip(jobs, before, strict=True) if stored]
    asked = bench.noting_loads()
    shown = await bench.projector.project_all(known)
    assert asked == [(JOBS[2], jobs[2].sequence)]
    after = [await bench.views.get(job_id) for job_id in JOBS[:2]]
    assert shown == [Projected(job, stored.revision) for job, stored in zip(jobs, after, strict=False) if stored]
    assert [await bench.value(job_id) for job_id in JOBS] == [*[await bench.expected(one) for one in JOBS[:2]], None]
    assert [await bench.payloads.newest(TOKEN, job_id) is None for job_id in JOBS] == [False, True, True]


async def test_a_deleted_job_without_a_view_leaves_a_trace(bench: Bench) -> None:
    """Another projector, which knows the job only as submitted, would make its view otherwise."""
    await bench.log.append(TOKEN, JOB, submitted())
    early = await bench.log.load(JOB)
    assert early
    for event in (ended("failed"), deleted()):
        await bench.log.append(TOKEN, JOB, event)
    await bench.projector.project(JOB)
    assert await bench.another().project_all([Projected(early, 0)]) is None
    assert await bench.value() is None


async def test_a_view_that_was_removed_is_written_again_if_the_log_still_has_its_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a log is lost, an audit removes its view, and the job is submitted again. Not if the job has gone."""
    await bench.happen(submitted())
    late = await bench.log.load(JOB)
    await bench.views.delete(JOB)
    await bench.projector.project(JOB)
    assert await bench.value() == await bench.expected()
    for event in (ended("failed"), deleted()):
        await bench.log.append(TOKEN, JOB, event)
    await bench.views.delete(JOB)
    load = bench.log.load

    async def lagging(job_id: str, *, at_least: int = 0) -> Job | None:
        return late if late and at_least <= late.sequence else await load(job_id, at_least=at_least)

    monkeypatch.setattr(bench.log, "load", lagging)
    await bench.projector.project(JOB)
    assert await bench.value() is None, "not even by one whose replica lags behind"


async def test_a_view_that_another_projector_makes_meanwhile_gives_way_to_a_newer_one(bench: Bench) -> None:
    class Overtaken(MemoryViews):
        older: bytes | None = None

        async def get(self, job_id: str) -> StoredView | None:
            stored = await super().get(job_id)
            if self.older:
                older, self.older = self.older, None
                await self.put(job_id, older, revision=stored.revision if stored else 0, ttl=None)
            return stored

    bench.views = views = Overtaken()
    await bench.log.append(TOKEN, JOB, submitted())
    views.older = await bench.expected()
    await bench.log.append(TOKEN, JOB, started())
    await bench.another().project(JOB)
    assert await bench.value() == await bench.expected()


async def test_an_aggregate_older_than_the_event_is_not_believed(bench: Bench) -> None:
    await bench.log.append(TOKEN, JOB, submitted())
    asked = bench.noting_loads()
    await bench.projector.project(JOB, at_least=1)
    assert set(asked) == {(JOB, 1)}


async def shown_with(bench: Bench, job_id: str, **changes: Any) -> bytes:
    value = await bench.value(job_id)
    return encode(msgspec.structs.replace(msgspec.json.decode(value or b"", type=JobView), **changes))


async def test_a_view_that_cannot_be_read_is_written_anew(bench: Bench) -> None:
    await bench.happen(submitted())
    wanted = await bench.expected()
    for bad in (b"from another world", await shown_with(bench, JOB, ended="yesterday")):
        await bench.store_view(JOB, bad)
        await bench.projector.project(JOB)
        assert await bench.value() == wanted


async def test_a_rebuild_replaces_whatever_is_stored_and_removes_what_is_of_no_job(bench: Bench) -> None:
    """Among it a view that claims to be newer than the log, one that was deleted by hand, and one of bad times."""
    for job_id in JOBS:
        await bench.happen(submitted(), job_id=job_id)
    wanted = {job_id: await bench.value(job_id) for job_id in JOBS}
    from_elsewhere = await shown_with(bench, JOBS[0], sequence=1 << 60, status=State.UNKNOWN)
    bad_times = await shown_with(bench, JOBS[2], ended="yesterday")
    await bench.views.delete(JOBS[1])
    changed = {JOBS[0]: from_elsewhere, JOBS[2]: bad_times, "f" * 24: from_elsewhere, "no job at all": from_elsewhere}
    for job_id, value in changed.items():
        await bench.store_view(job_id, value)
    assert await rebuild(bench.projector) == 3
    found = {key: await bench.value(key) for key in await bench.views.job_ids()}
    assert {key: value for key, value in found.items() if value is not None} == wanted


MAKERS: list[Callable[[], AnyEvent]] = [*[submitted] * 4, started, launched, kill_requested, held, released, rejected]
MAKERS += [ended, lambda: ended("unknown", "lost"), deleted]


@st.composite
def messages(draw: st.DrawFn) -> tuple[EventAddress, bytes]:
    """What may stand in the log: facts, as they are, with fields of a newer version, unreadable, or of a newer kind."""
    event = draw(st.sampled_from(MAKERS))()
    kind = draw(st.sampled_from([event.kind] * 5 + ["future"]))
    body = encode(event)
    shape = draw(st.sampled_from(["plain", "plain", "plain", "newer", "junk"]))
    if shape == "newer":
        body = json.dumps({**json.loads(body), "from_a_newer_version": [1]}).encode()
    token = draw(st.sampled_from([TOKEN] * 5 + [queue_token("other")]))
    return EventAddress(kind, token, draw(st.sampled_from(JOBS[:2]))), b"\xff" if shape == "junk" else body


class Yielding:
    """Lets other tasks go first, now more and now less often."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - the same each time

    async def __call__(self) -> None:
        for _ in range(self._dice.choice((0, 1, 4, 16))):
            await asyncio.sleep(0)


class Log(MemoryEventLog):
    """What was loaded can be old by the time it is used."""

    step: Yielding

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        job = await super().load(job_id, at_least=at_least)
        await self.step()
        return job


class Views(MemoryViews):
    """Others can write between a read and a write."""

    step: Yielding

    async def get(self, job_id: str) -> StoredView | None:
        stored = await super().get(job_id)
        await self.step()
        return stored

    async def put_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        await self.step()
        return await super().put_all(views)


class Feed:
    """One reader's side of a feed."""

    ack_wait = 5.0

    def __init__(self) -> None:
        self._events: asyncio.Queue[Delivered] = asyncio.Queue()

    def deliver(self, event: Delivered) -> None:
        self._events.put_nowait(event)

    async def declare(self) -> None:
        pass

    async def batches(self) -> AsyncGenerator[list[Delivered], None]:
        batch = [await self._events.get()]
        while True:
            following = None if self._events.empty() else self._events.get_nowait()
            if following and following.number == batch[-1].number + 1:
                batch.append(following)
                continue
            yield batch
            batch = [following or await self._events.get()]

    async def ack(self, events: Iterable[Delivered]) -> None:
        for _ in events:
            self._events.task_done()

    async def heartbeat(self) -> None:
        pass

    async def leave(self) -> None:
        pass

    async def empty(self) -> None:
        """Return once everything is acknowledged."""
        await self._events.join()


class Racing(Bench):
    """Two projectors on one log and one view."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.log, self.views = Log(now=lambda: self.now), Views()
        self.log.step = self.views.step = Yielding(seed)
        self.feeds = [Feed(), Feed()]
        self._deliveries = 0

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """If one of them fails, so does the block: nothing would be acknowledged any more."""
        async with asyncio.TaskGroup() as group:
            followers = [Follower(cast("EventFeed", feed), self.another()) for feed in self.feeds]
            tasks = [group.create_task(follower.run()) for follower in followers]
            yield
            for task in tasks:
                task.cancel()

    async def deliver(self, record: Record, data: bytes, deliveries: list[tuple[int, int]]) -> None:
        """The first time at once, in the order of the log; again after so many steps."""
        for number, (delay, which) in enumerate(deliveries, start=1):
            for _ in range(delay if number > 1 else 0):
                await asyncio.sleep(0)
            self._deliveries += 1
            event = Delivered(
                subject=EventAddress(record.kind, record.token, record.job_id).subject,
                data=data,
                sequence=record.sequence,
                time=record.time,
                number=self._deliveries,
                deliveries=number,
                first=number == 1,
                ack_subject="",
            )
            self.feeds[which].deliver(event)

    async def shown(self) -> dict[str, bytes]:
        found = {job_id: await self.value(job_id) for job_id in JOBS}
        return {job_id: value for job_id, value in found.items() if value is not None}

    def folded(self) -> dict[str, bytes]:
        jobs = [fold(record for record in self.log.records if record.job_id == job_id) for job_id in JOBS]
        return {job.job_id: encode(view(job)) for job in jobs if job is not None and job.state is not State.DELETED}


class Happening(NamedTuple):
    """A message, and to whom it comes: once or twice, the second time after so many steps."""

    address: EventAddress
    body: bytes
    lost: bool
    deliveries: list[tuple[int, int]]
    gap: int


HAPPENINGS = st.builds(
    lambda message, **rest: Happening(*message, **rest),
    messages(),
    lost=st.sampled_from([False] * 9 + [True]),
    deliveries=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=2),
    gap=st.integers(0, 3),
)


@given(st.lists(HAPPENINGS, max_size=25, unique_by=lambda happening: happening.address), st.integers(0, 1000))
async def test_replays_gaps_races_and_new_facts_leave_the_view_right(happenings: list[Happening], seed: int) -> None:
    """Some facts are gone before anybody saw them; the others come at least once, to either projector."""
    house = Racing(seed)
    async with house.following():
        async with asyncio.TaskGroup() as group:
            for happening in happenings:
                house.log.put(happening.address, happening.body)
                if happening.lost:
                    house.log.records.pop()
                else:
                    deliver = house.deliver(house.log.records[-1], happening.body, happening.deliveries)
                    group.create_task(deliver)
                for _ in range(happening.gap):
                    await asyncio.sleep(0)
        for feed in house.feeds:
            await feed.empty()
    wanted = house.folded()
    assert await house.shown() == wanted
    await rebuild(house.projector)
    assert await house.shown() == wanted
