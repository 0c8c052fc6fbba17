"""What `stint.ports.History` promises."""

import asyncio
from datetime import UTC, datetime, timedelta

from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress, unreadable_submission
from stint.core.view import parse_time
from stint.ports import Fact, Place, Strays
from tests.contract.conftest import JOB, OTHER, Ports
from tests.support.events import TOKEN, deleted, ended, kill_requested, rejected, started, submitted
from tests.support.waiting import PATIENCE, until

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
    await ports.must_append(OTHER_QUEUE, ids[0], submitted("other"), ended("failed"))
    seen = await ports.history.survey([*ids, OTHER])
    over = {}
    for job_id, kind in ((ids[2], "ended"), (ids[3], "rejected")):
        job = await ports.job(job_id)
        over[Place(TOKEN, job_id)] = job.time_of(kind)
    end = seen.pop(Place(OTHER_QUEUE, ids[0]))  # type: ignore[attr-defined] # nobody else has it
    assert end
    assert seen == {Place(TOKEN, ids[0]): "", Place(TOKEN, ids[1]): ""} | over
    assert await ports.history.survey([OTHER]) == await ports.history.survey([]) == {}


async def test_a_survey_of_many_jobs_in_queues_with_long_names(ports: Ports) -> None:
    token = queue_token("q" * 1000)
    ids = [f"{number:024x}" for number in range(450)]
    for job_id in ids:
        await ports.must_append(token, job_id, submitted("q" * 1000))
    await ports.must_append(token, ids[-1], ended("failed"))
    seen = await ports.history.survey(ids)
    assert len(seen) == len(ids)
    assert [place.job_id for place, end in seen.items() if end] == ids[-1:]


async def test_the_events_of_a_kind_are_read_in_order_and_from_a_time_on(ports: Ports) -> None:
    assert list(await ports.history.facts("ended", after=0, since=nothing())) == []
    ids = [f"{number:024x}" for number in range(300)]
    for job_id in ids:
        await ports.must_append(TOKEN, job_id, submitted(), ended("failed"))
    found: list[Fact] = []
    while page := await ports.history.facts("ended", after=found[-1].sequence if found else 0, since=nothing()):
        found += page
    assert [fact.job_id for fact in found] == ids
    assert sorted({fact.time for fact in found}) == [fact.time for fact in found]
    (job, late) = (await ports.job(ids[0]), found[200])
    assert found[0].time == parse_time(job.time_of("ended"))
    from_late = await ports.history.facts("ended", after=0, since=late.time)
    assert [fact.job_id for fact in from_late] == ids[200:]
    assert list(await ports.history.facts("ended", after=0, since=everything())) == []


async def test_jobs_in_work_are_known_until_they_are_taken(ports: Ports) -> None:
    assert not await ports.history.is_in_work(Place(TOKEN, JOB))
    await ports.must_append(TOKEN, JOB, submitted())
    await ports.must_append(TOKEN, OTHER, submitted())
    await in_work(ports, OTHER)
    for place in (Place(TOKEN, JOB), Place(TOKEN, OTHER)):
        assert await ports.history.is_in_work(place)
        assert await ports.history.is_waiting(place.job_id)
    assert not await ports.history.is_in_work(Place(OTHER_QUEUE, JOB))
    assert not await ports.history.is_in_work(Place(TOKEN, "a" * 24))
    await ports.take_from_work(TOKEN, JOB)
    assert not await ports.history.is_in_work(Place(TOKEN, JOB))
    assert not await ports.history.is_waiting(JOB)
    assert await ports.history.is_in_work(Place(TOKEN, OTHER))


async def in_work(ports: Ports, last: str) -> None:
    """Wait until the last submission is in its work queue, which gets it a moment after the log."""
    await until(lambda: ports.history.is_in_work(Place(TOKEN, last)))


async def strays(ports: Ports) -> Strays:
    """As soon as the work queues have heard from the log."""
    async with asyncio.timeout(PATIENCE):
        while (found := await ports.history.strays()) is None:
            await ports.log.load(JOB)  # a round trip, in which they may catch up
    return found


async def test_jobs_are_astray_while_only_their_payload_or_only_their_submission_is_there(ports: Ports) -> None:
    ids = [f"{number:024x}" for number in range(3)]
    places = {Place(TOKEN, job_id) for job_id in ids}
    assert await strays(ports) == (set(), set())
    for place in places:
        await ports.payloads.put(*place, b"sealed")
    assert await strays(ports) == (places, set())
    for job_id in ids:
        await ports.must_append(TOKEN, job_id, submitted())
    await in_work(ports, ids[-1])
    assert await strays(ports) == (set(), set())
    await ports.take_from_work(TOKEN, ids[0])
    await ports.must_append(TOKEN, ids[1], ended("failed"))
    await ports.payloads.purge(TOKEN, ids[1])
    over = Place(TOKEN, ids[1])
    assert await strays(ports) == ({Place(TOKEN, ids[0])}, {over})
    for _ in range(2):
        await ports.history.take_from_work(over)
        assert not await ports.history.is_in_work(over)
    assert await strays(ports) == ({Place(TOKEN, ids[0])}, set())
    assert await ports.history.is_in_work(Place(TOKEN, ids[2]))


async def test_old_facts_are_found_whatever_they_are(ports: Ports) -> None:
    await ports.must_append(TOKEN, JOB, submitted(), started())
    await ports.must_append(TOKEN, OTHER, kill_requested())
    await ports.log.append(*unreadable_submission(7)[1:], rejected())
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
    job = await ports.begun(ended("failed"))
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
