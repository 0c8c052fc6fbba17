"""The projector on the ports in memory."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from stint.core.chain import Chunk
from stint.core.codec import encode
from stint.core.errors import UndecodableError
from stint.core.events import AnyEvent
from stint.core.job import State, fold
from stint.core.subjects import EventAddress
from stint.core.view import JobView, view
from stint.testing import MemoryEventLog, MemoryOutput, MemoryPayloads, MemoryViews
from stint_projector.agenda import Agenda
from stint_projector.project import Projector
from stint_projector.rebuild import rebuild
from tests.support.events import TOKEN, deleted, ended, kill_requested, rejected, started, submitted

JOB = "0123456789abcdef01234567"


class Bench:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.log = MemoryEventLog(now=lambda: self.now)
        self.views, self.payloads, self.output = MemoryViews(), MemoryPayloads(now=lambda: self.now), MemoryOutput()
        self.agenda = Agenda(now=lambda: self.now)
        self.projector = Projector(
            log=self.log,
            views=self.views,
            payloads=self.payloads,
            output=self.output,
            agenda=self.agenda,
            retention=timedelta(hours=6),
            now=lambda: self.now,
        )

    async def happen(self, *events: AnyEvent, job_id: str = JOB) -> None:
        for event in events:
            assert (await self.log.append(TOKEN, job_id, event)).value == "won"
            await self.projector.project(job_id, create=event.kind == "submitted")

    async def value(self, job_id: str = JOB) -> bytes | None:
        stored = await self.views.get(job_id)
        return stored.value if stored else None

    async def revision(self, job_id: str) -> int:
        stored = await self.views.get(job_id)
        return stored.revision if stored else 0

    async def expected(self, job_id: str = JOB) -> bytes:
        job = await self.log.load(job_id)
        assert job is not None
        return encode(view(job))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_view_follows_the_log(bench: Bench) -> None:
    for event in (submitted(), started(), kill_requested(), ended("failed", "killed", 143)):
        await bench.happen(event)
        assert await bench.value() == await bench.expected()


async def test_events_out_of_order_and_twice_give_the_same_view(bench: Bench) -> None:
    await bench.happen(submitted(), started(), ended())
    before = await bench.views.get(JOB)
    for create in (False, True, False):
        await bench.projector.project(JOB, create=create)
    assert await bench.views.get(JOB) == before, "not even written again"


async def test_a_stale_projector_does_not_overwrite_a_newer_view(bench: Bench) -> None:
    await bench.happen(submitted())
    stale = MemoryEventLog()
    stale.records = list(bench.log.records)
    await bench.happen(started())
    behind = Projector(
        log=stale,
        views=bench.views,
        payloads=bench.payloads,
        output=bench.output,
        agenda=bench.agenda,
        retention=timedelta(hours=6),
    )
    await behind.project(JOB, create=True)
    assert await bench.value() == await bench.expected()


async def test_only_a_submission_makes_a_view(bench: Bench) -> None:
    await bench.log.append(TOKEN, JOB, submitted())
    await bench.log.append(TOKEN, JOB, started())
    await bench.projector.project(JOB, create=False)
    assert await bench.value() is None
    await bench.projector.project(JOB, create=True)
    assert await bench.value() == await bench.expected()


async def test_an_expired_view_is_not_brought_back(bench: Bench) -> None:
    await bench.happen(submitted(), ended("failed"))
    bench.views.expire(JOB)
    bench.now += timedelta(hours=7)
    await bench.projector.project(JOB, create=True)
    assert await bench.views.get(JOB) is None, "not even for a moment"


async def test_a_view_that_has_missed_the_end_goes_with_it(bench: Bench) -> None:
    """Whoever was away for longer than the retention finds the view as it left it: with no time to expire at."""
    await bench.happen(submitted(), started())
    await bench.log.append(TOKEN, JOB, ended())
    bench.now += timedelta(hours=7)
    await bench.projector.project(JOB, create=False)
    assert await bench.value() is None


async def test_a_deleted_job_leaves_nothing_behind(bench: Bench) -> None:
    await bench.payloads.put(TOKEN, JOB, b"sealed")
    chunk = Chunk(number=1, offset=0, stream="stdout", digest="d", data=b"x")
    await bench.output.append(TOKEN, JOB, chunk, after=0)
    await bench.happen(submitted(), ended("failed"), deleted())
    assert await bench.value() is None
    assert [chunk async for chunk in bench.output.read(TOKEN, JOB)] == []
    await bench.projector.project(JOB, create=True)
    assert await bench.value() is None, "never revived"


@pytest.mark.parametrize("end", [ended("failed"), rejected(), deleted()], ids=lambda event: event.kind)
async def test_the_payload_goes_with_the_job(bench: Bench, end: AnyEvent) -> None:
    await bench.payloads.put(TOKEN, JOB, b"sealed")
    await bench.happen(submitted())
    assert await bench.payloads.get(TOKEN, JOB, 1) == b"sealed"
    await bench.happen(end)
    with pytest.raises(UndecodableError):
        await bench.payloads.get(TOKEN, JOB, 1)


async def test_a_view_that_cannot_be_read_is_written_anew(bench: Bench) -> None:
    await bench.log.append(TOKEN, JOB, submitted())
    await bench.views.put(JOB, b"from another world", revision=0, ttl=None)
    await bench.projector.project(JOB, create=False)
    assert await bench.value() == await bench.expected()


async def test_unknown_kinds_from_a_newer_version_do_no_harm(bench: Bench) -> None:
    await bench.happen(submitted())
    bench.log.put(EventAddress("from_the_future", TOKEN, JOB), b"{}")
    await bench.projector.project(JOB, create=False)
    await bench.happen(started())
    job = fold(bench.log.records)
    assert job is not None
    assert job.state is State.RUNNING
    assert await bench.value() == await bench.expected()


async def test_a_rebuilt_view_has_the_same_bytes(bench: Bench) -> None:
    ids = [f"{number:024x}" for number in range(50)]
    for number, job_id in enumerate(ids):
        await bench.happen(submitted(), job_id=job_id)
        if number % 3:
            await bench.happen(started(), ended(), job_id=job_id)
        if not number % 5:
            await bench.happen(*([ended("failed")] if not number % 3 else []), deleted(), job_id=job_id)
    before = {job_id: await bench.value(job_id) for job_id in ids}
    assert await rebuild(bench.log, bench.views, bench.projector) == 50
    assert {job_id: await bench.value(job_id) for job_id in ids} == before
    assert sum(value is not None for value in before.values()) == 40


async def test_a_rebuild_replaces_whatever_is_stored_and_removes_what_is_of_no_job(bench: Bench) -> None:
    """Among it a view that claims to be newer than the log, one that was deleted by hand, and one of bad times."""
    ids = [f"{number:024x}" for number in range(3)]
    for job_id in ids:
        await bench.happen(submitted(), job_id=job_id)
    wanted = {job_id: await bench.value(job_id) for job_id in ids}
    shown = msgspec.json.decode(wanted[ids[0]] or b"", type=JobView)
    from_elsewhere = encode(msgspec.structs.replace(shown, sequence=1 << 60, status=State.UNKNOWN))
    bad_times = encode(msgspec.structs.replace(shown, job_id=ids[2], ended="yesterday"))
    await bench.views.put(ids[0], from_elsewhere, revision=await bench.revision(ids[0]), ttl=None)
    await bench.views.delete(ids[1])
    await bench.views.put(ids[2], bad_times, revision=await bench.revision(ids[2]), ttl=None)
    for ghost in ("f" * 24, "no job at all"):
        await bench.views.put(ghost, from_elsewhere, revision=0, ttl=None)
    assert await rebuild(bench.log, bench.views, bench.projector) == 3
    keys = await bench.views.job_ids()
    assert {key: value for key in keys if (value := await bench.value(key)) is not None} == wanted


async def test_a_view_of_bad_times_is_written_anew(bench: Bench) -> None:
    await bench.happen(submitted())
    wanted = await bench.value()
    bad = encode(msgspec.structs.replace(msgspec.json.decode(wanted or b"", type=JobView), ended="yesterday"))
    await bench.views.put(JOB, bad, revision=await bench.revision(JOB), ttl=None)
    await bench.projector.project(JOB, create=False)
    assert await bench.value() == wanted
