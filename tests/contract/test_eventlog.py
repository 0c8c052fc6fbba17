"""What `stint.ports.EventLog` promises."""

import asyncio

import pytest

from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress, unreadable_submission
from stint.ports import Outcome
from tests.contract.conftest import JOB, OTHER, Ports
from tests.support.events import TOKEN, ended, kill_requested, launched, rejected, started, submitted

KILL = kill_requested(), ended("failed", "killed")


async def test_what_was_appended_is_loaded(ports: Ports) -> None:
    assert await ports.log.load(JOB) is None
    first, second = submitted(), started()
    assert await ports.log.append(TOKEN, JOB, first) is Outcome.WON
    assert await ports.log.append(TOKEN, JOB, second) is Outcome.WON
    job = await ports.job(JOB)
    assert (job.state, job.token) == (State.RUNNING, TOKEN)
    assert (job.fact(type(first)), job.fact(type(second))) == (first, second)
    assert await ports.log.load(OTHER) is None


async def test_each_fact_happens_once(ports: Ports) -> None:
    fact = submitted()
    assert [await ports.log.append(TOKEN, JOB, fact) for _ in range(3)] == [Outcome.WON] * 3, "safe to repeat"
    await ports.must_append(TOKEN, JOB, started())
    assert await ports.log.append(TOKEN, JOB, started("runner-2")) is Outcome.LOST
    job = await ports.job(JOB)
    assert job.runner == "runner-1"


async def test_a_decision_on_old_facts_loses(ports: Ports) -> None:
    """An end takes what came in between, as it says nothing of them."""
    job = await ports.begun()
    await ports.must_append(TOKEN, JOB, kill_requested())
    assert await ports.log.append(TOKEN, JOB, started(), after=job.sequence) is Outcome.LOST
    newer = await ports.job(JOB)
    assert await ports.log.append(TOKEN, JOB, started(), after=newer.sequence) is Outcome.WON
    assert await ports.log.append(TOKEN, JOB, ended()) is Outcome.WON


async def test_an_event_that_must_not_come_after_another(ports: Ports) -> None:
    """What came in between does not matter otherwise; and what is in the log already has won, whatever came then."""
    first = started()
    await ports.must_append(TOKEN, JOB, submitted(), kill_requested())
    await ports.must_append(TOKEN, OTHER, submitted(), ended())
    assert await ports.log.append(TOKEN, JOB, first, unless="ended") is Outcome.WON
    await ports.must_append(TOKEN, JOB, ended())
    assert await ports.log.append(TOKEN, JOB, first, unless="ended") is Outcome.WON
    assert await ports.log.append(TOKEN, JOB, launched(), unless="ended") is Outcome.LOST
    job = await ports.job(JOB)
    assert "launched" not in job.facts


async def test_a_pair_is_appended_in_order(ports: Ports) -> None:
    job = await ports.begun()
    assert await ports.log.append(TOKEN, JOB, *KILL, after=job.sequence) is Outcome.WON
    assert await ports.log.append(TOKEN, JOB, *KILL, after=job.sequence) is Outcome.WON
    killed = await ports.job(JOB)
    assert (killed.state, killed.kill_requested) == (State.FAILED, True)


@pytest.mark.parametrize("overtaken", [False, True])
async def test_a_pair_whose_first_event_is_stored_goes_on_unless_another_came(ports: Ports, overtaken: bool) -> None:
    """As if the answer to the first had been lost."""
    job = await ports.begun()
    assert await ports.log.append(TOKEN, JOB, KILL[0], after=job.sequence) is Outcome.WON
    if overtaken:
        await ports.must_append(TOKEN, JOB, launched())
    outcome = await ports.log.append(TOKEN, JOB, *KILL, after=job.sequence)
    assert outcome is (Outcome.LOST if overtaken else Outcome.WON)
    assert (await ports.job(JOB)).terminal is not overtaken


async def test_a_pair_that_loses_leaves_nothing(ports: Ports) -> None:
    job = await ports.begun()
    await ports.must_append(TOKEN, OTHER, submitted(), started())  # facts of other jobs do not disturb
    assert await ports.log.append(TOKEN, JOB, started(), after=job.sequence) is Outcome.WON
    assert await ports.log.append(TOKEN, JOB, *KILL, after=job.sequence) is Outcome.LOST
    running = await ports.job(JOB)
    assert (running.state, running.kill_requested) == (State.RUNNING, False)


async def test_what_is_loaded_is_the_same_wherever_it_is_asked_for(ports: Ports) -> None:
    """Facts of kinds that are not known here are in the aggregate's sequence, also as the leader has it."""
    await ports.must_append(TOKEN, JOB, submitted(), started())
    await ports.put(EventAddress("from_the_future", TOKEN, JOB), b"{}")
    await ports.put(EventAddress("ended", "me", JOB), b"{}")
    job = await ports.job(JOB)
    assert job.sequence == 3
    assert await ports.log.load(JOB, at_least=1000) == job


async def test_bytes_that_are_no_fact_are_loaded_as_such(ports: Ports) -> None:
    await ports.put(EventAddress("submitted", TOKEN, JOB), b"\xff junk")
    await ports.put(EventAddress("from_the_future", TOKEN, JOB), b"{}")
    job = await ports.job(JOB)
    assert (job.state, job.fact(type(submitted()))) == (State.QUEUED, None)
    assert await ports.log.append(TOKEN, JOB, rejected(), after=job.sequence) is Outcome.WON


@pytest.mark.parametrize("token", ["MF", "me~", "*"])
async def test_a_submission_to_no_queue_is_no_job(ports: Ports, token: str) -> None:
    await ports.put(EventAddress("submitted", token, JOB), b"{}")
    assert await ports.log.load(JOB) is None
    await ports.must_append(TOKEN, JOB, submitted())
    assert await ports.log.load(JOB) is not None


async def test_a_job_has_one_queue(ports: Ports) -> None:
    other_queue = queue_token("other")
    await ports.must_append(TOKEN, JOB, submitted())
    await ports.must_append(other_queue, JOB, submitted("other"), started("elsewhere"))
    job = await ports.job(JOB)
    assert (job.token, job.state) == (TOKEN, State.QUEUED)
    assert await ports.log.append(TOKEN, JOB, started(), after=job.sequence) is Outcome.WON


async def test_who_follows_is_told_to_look_again(ports: Ports) -> None:
    async with ports.log.follow(JOB) as left:
        pass
    async with ports.log.follow(OTHER) as others, ports.log.follow(JOB) as changed, asyncio.timeout(10):
        for fact in (submitted(), started(), ended()):
            await ports.must_append(TOKEN, JOB, fact)
            await changed.wait()
            announced = changed.take()
            loaded = await ports.log.load(JOB)
            assert loaded is not None
            assert fact.kind in loaded.facts, "it stands in the log before anybody is told"
            assert announced == loaded.sequence
        assert not others.is_set()
        assert not left.is_set()
        await ports.must_append(TOKEN, OTHER, submitted())
        await others.wait()


async def test_who_follows_some_kinds_is_told_of_those(ports: Ports) -> None:
    async with (
        ports.log.follow(JOB) as any_kind,
        ports.log.follow_kinds(TOKEN, JOB, "ended") as ends,
        asyncio.timeout(10),
    ):
        for fact in (submitted(), started()):
            await ports.must_append(TOKEN, JOB, fact)
            await any_kind.wait()
            any_kind.clear()
        assert not ends.is_set()
        await ports.must_append(queue_token("other"), JOB, ended())
        await any_kind.wait()
        assert not ends.is_set()
        await ports.must_append(TOKEN, JOB, ended())
        await ends.wait()
        assert (await ports.job(JOB)).sequence == ends.sequence


async def test_a_rejection_is_recorded_once_a_message(ports: Ports) -> None:
    assert await ports.log.append(*unreadable_submission(7)[1:], rejected()) is Outcome.WON
    assert await ports.log.append(*unreadable_submission(7)[1:], rejected()) is Outcome.LOST
    assert await ports.log.append(*unreadable_submission(8)[1:], rejected()) is Outcome.WON


async def test_all_jobs_are_listed(ports: Ports) -> None:
    ids = [f"{number:024x}" for number in range(300)]
    for job_id in ids:
        await ports.must_append(TOKEN, job_id, submitted())
    await ports.must_append(TOKEN, ids[0], started())
    assert [job_id async for job_id in ports.log.job_ids()] == ids


async def test_who_has_not_seen_a_bar_loses_and_who_has_wins(ports: Ports) -> None:
    before = await ports.begun()
    for _ in range(3):  # as often as its queue is paused
        seen = await ports.job(JOB)
        assert await ports.log.bar(TOKEN, JOB, after=seen.sequence)
    assert not await ports.log.bar(TOKEN, JOB, after=before.sequence), "it has changed"
    assert await ports.log.append(TOKEN, JOB, started(), after=before.sequence) is Outcome.LOST
    after = await ports.job(JOB)
    assert (after.state, after.facts) == (State.QUEUED, before.facts), "it says nothing of the job"
    assert await ports.log.append(TOKEN, JOB, started(), after=after.sequence) is Outcome.WON


async def test_either_the_bar_or_the_claim_comes_first(ports: Ports) -> None:
    for number in range(20):
        job_id = f"{number:024x}"
        await ports.must_append(TOKEN, job_id, submitted())
        seen = (await ports.job(job_id)).sequence
        barred, claimed = await asyncio.gather(
            ports.log.bar(TOKEN, job_id, after=seen), ports.log.append(TOKEN, job_id, started(), after=seen)
        )
        assert barred is (claimed is Outcome.LOST)
