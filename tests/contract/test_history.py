"""What `stint.ports.History` promises."""

import asyncio
from datetime import UTC, datetime, timedelta

from stint.core.events import AnyEvent
from stint.core.job import State
from stint.core.subjects import EventAddress, queue_token
from stint.core.view import parse_time
from stint.ports import Place, Strays
from tests.contract.conftest import Ports
from tests.support.events import TOKEN, deleted, ended, kill_requested, rejected, started, submitted

JOB = "0123456789abcdef01234567"
OTHER = "f" * 24
OTHER_QUEUE = queue_token("other")
LATER = timedelta(minutes=1)
"""Added to now, it makes everything there is old."""


def everything() -> datetime:
    return datetime.now(UTC) + LATER


def nothing() -> datetime:
    return datetime.now(UTC) - LATER


async def test_a_survey_says_when_jobs_ended(ports: Ports) -> None:
    ids = [f"{number:024x}" for number in range(6)]
    await ports.must_append(TOKEN, ids[0], submitted())
    await ports.must_append(TOKEN, ids[1], submitted(), started(), kill_requested())
    await ports.must_append(TOKEN, ids[2], submitted(), started(), ended())
    await ports.must_append(TOKEN, ids[3], submitted(), rejected())
    await ports.must_append(TOKEN, ids[4], submitted(), ended("failed"), deleted())
    await ports.must_append(TOKEN, ids[5], kill_requested(), ended("failed"))
    seen = await ports.history.survey([Place(TOKEN, job_id) for job_id in [*ids, OTHER]])
    over = {}
    for job_id, kind in ((ids[2], "ended"), (ids[3], "rejected")):
        job = await ports.job(job_id)
        over[Place(TOKEN, job_id)] = job.time_of(kind)
    assert seen == {Place(TOKEN, ids[0]): "", Place(TOKEN, ids[1]): ""} | over
    assert await ports.history.survey([Place(OTHER_QUEUE, job_id) for job_id in ids]) == {}
    assert await ports.history.survey([]) == {}


async def test_a_survey_of_many_jobs_in_queues_with_long_names(ports: Ports) -> None:
    token = queue_token("q" * 1000)
    ids = [f"{number:024x}" for number in range(450)]
    for job_id in ids:
        await ports.must_append(token, job_id, submitted("q" * 1000))
    await ports.must_append(token, ids[-1], ended("failed"))
    seen = await ports.history.survey(Place(token, job_id) for job_id in ids)
    assert len(seen) == len(ids)
    assert [place.job_id for place, end in seen.items() if end] == ids[-1:]


async def test_submissions_are_listed(ports: Ports) -> None:
    assert list(await ports.history.submitted()) == []
    await ports.must_append(TOKEN, JOB, submitted(), started())
    await ports.must_append(TOKEN, OTHER, started())
    assert set(await ports.history.submitted()) == {Place(TOKEN, JOB)}


async def test_jobs_in_work_are_known_until_they_are_taken(ports: Ports) -> None:
    assert list(await ports.history.in_work()) == []
    assert not await ports.history.is_in_work(Place(TOKEN, JOB))
    await ports.must_append(TOKEN, JOB, submitted())
    await ports.must_append(TOKEN, OTHER, submitted())
    await strays(ports)
    assert await ports.history.is_in_work(Place(TOKEN, JOB))
    assert not await ports.history.is_in_work(Place(OTHER_QUEUE, JOB))
    assert not await ports.history.is_in_work(Place(TOKEN, "a" * 24))
    await ports.take_from_work(TOKEN, JOB)
    assert set(await ports.history.in_work()) == {OTHER}
    assert not await ports.history.is_in_work(Place(TOKEN, JOB))


async def strays(ports: Ports) -> Strays:
    """As soon as the work queues are not behind."""
    async with asyncio.timeout(10):
        while (found := await ports.history.strays()) is None:
            await ports.log.load(JOB)  # a round trip, in which they may catch up
    return found


async def test_jobs_are_missing_once_they_were_taken_and_until_they_end(ports: Ports) -> None:
    assert set((await strays(ports)).missing) == set()
    ends: tuple[AnyEvent, ...] = (ended(), rejected(), deleted())
    ids = [f"{number:024x}" for number in range(len(ends))]
    for job_id in (*ids, JOB, OTHER):
        await ports.must_append(TOKEN, job_id, submitted())
    assert set((await strays(ports)).missing) == set()
    for job_id in (*ids, JOB):
        await ports.take_from_work(TOKEN, job_id)
    assert set((await strays(ports)).missing) == {Place(TOKEN, job_id) for job_id in (*ids, JOB)}
    for job_id, end in zip(ids, ends, strict=True):
        await ports.must_append(TOKEN, job_id, started(), kill_requested(), end)
    assert set((await strays(ports)).missing) == {Place(TOKEN, JOB)}
    await ports.must_append(OTHER_QUEUE, JOB, ended())  # it is another job's
    assert set((await strays(ports)).missing) == {Place(TOKEN, JOB)}
    await ports.history.forget(JOB, before=everything())
    assert set((await strays(ports)).missing) == set()


async def test_what_is_over_is_astray_in_work_until_it_is_taken_from_it(ports: Ports) -> None:
    ends: tuple[AnyEvent, ...] = (ended("failed"), rejected(), deleted())
    ids = [f"{number:024x}" for number in range(len(ends))]
    for job_id in (*ids, JOB):
        await ports.must_append(TOKEN, job_id, submitted())
    assert (await strays(ports)).over == set()
    for job_id, end in zip(ids, ends, strict=True):
        await ports.must_append(TOKEN, job_id, end)
    places = {Place(TOKEN, job_id) for job_id in ids}
    assert await strays(ports) == (set(), places)
    for place in places:
        await ports.history.take_from_work(place)
        await ports.history.take_from_work(place)
        assert not await ports.history.is_in_work(place)
    assert await strays(ports) == (set(), set())
    assert set(await ports.history.in_work()) == {JOB}


async def test_old_facts_are_found_whatever_they_are(ports: Ports) -> None:
    await ports.must_append(TOKEN, JOB, submitted(), started())
    await ports.must_append(TOKEN, OTHER, kill_requested())
    await ports.log.record_rejection(7, rejected())
    await ports.put(EventAddress("from_the_future", "MF", "junk"), b"\xff")
    assert await ports.log.load("junk") is None
    found = {job_id async for job_id in ports.history.older_than(everything())}
    assert found > {JOB, OTHER, "junk"}
    assert len(found) == 4
    assert [job_id async for job_id in ports.history.older_than(nothing())] == []


async def test_all_old_facts_are_found_while_they_are_being_forgotten(ports: Ports) -> None:
    ids = [f"{number:024x}" for number in range(600)]
    for job_id in ids:
        await ports.must_append(TOKEN, job_id, submitted())
    found = []
    async for job_id in ports.history.older_than(everything()):
        found.append(job_id)
        assert await ports.history.forget(job_id, before=everything())
    assert found == ids
    assert [job_id async for job_id in ports.log.job_ids()] == []


async def test_a_job_is_forgotten_as_a_whole_and_others_are_not(ports: Ports) -> None:
    await ports.must_append(TOKEN, JOB, submitted(), started(), ended())
    await ports.must_append(TOKEN, OTHER, submitted(), started())
    await ports.put(EventAddress("from_the_future", TOKEN, JOB), b"{}")
    assert await ports.history.forget(JOB, before=everything())
    assert await ports.history.forget(JOB, before=everything()), "safe to repeat"
    assert await ports.log.load(JOB) is None
    assert {job_id async for job_id in ports.history.older_than(everything())} == {OTHER}
    other = await ports.job(OTHER)
    assert other.state is State.RUNNING


async def test_one_young_fact_in_another_queue_keeps_them_all(ports: Ports) -> None:
    """Were the first queue's facts gone, the job would begin anew in the second."""
    await ports.must_append(TOKEN, JOB, submitted(), ended("failed"))
    job = await ports.job(JOB)
    assert not await ports.history.forget(JOB, before=nothing())
    assert await ports.log.load(JOB) == job
    border = parse_time(job.time_of("ended")) + timedelta(microseconds=1)
    await ports.must_append(OTHER_QUEUE, JOB, submitted("other"))
    assert not await ports.history.forget(JOB, before=border)
    assert await ports.log.load(JOB) == job
    assert await ports.history.forget(JOB, before=everything())
    assert await ports.log.load(JOB) is None


async def test_a_forgotten_job_can_be_submitted_again_and_a_late_fact_makes_none(ports: Ports) -> None:
    await ports.must_append(TOKEN, JOB, submitted(), ended("failed"))
    await ports.history.forget(JOB, before=everything())
    await ports.must_append(TOKEN, JOB, kill_requested())
    assert await ports.log.load(JOB) is None
    await ports.must_append(TOKEN, JOB, submitted())
    assert (await ports.job(JOB)).state is State.QUEUED
