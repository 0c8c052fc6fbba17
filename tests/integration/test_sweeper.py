"""Jobs that are in no queue any more, on a real NATS server."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from nats.aio.msg import Msg

from stint.core.job import Job, State
from stint.core.names.streams import EVENTS, WORK
from stint.core.names.subjects import event_filter
from stint.jetstream import Broker, JetStreamEventLog, JetStreamHistory, JetStreamPayloads, JetStreamViews, ServerClock
from stint.jetstream.streams.stream import Stream
from stint.ports import Place
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import build_sweeper
from stint_projector.sweeper import MISSING
from tests.integration.test_janitor import working
from tests.support.brokers import connected, happen, pulled, work_queues
from tests.support.events import TOKEN, ended, held, started, submitted
from tests.support.servers import NatsProcess
from tests.support.views import followed
from tests.support.waiting import PATIENCE, until

LOST, HELD, QUEUED, RUNNING, ENDED = (f"{number:024x}" for number in range(5))
SHORT = {"STINT_LEASE": "0.6", "STINT_TAKEOVER": "0.4"}
"""Two seconds, and a look each second."""


async def remove_from_work(broker: Broker, *job_ids: str) -> None:
    for job_id in job_ids:
        await JetStreamHistory(broker).take_from_work(Place(TOKEN, job_id))


async def in_work(broker: Broker, count: int) -> None:
    await until(lambda: JetStreamHistory(broker).in_work(), lambda found: len(found) >= count)


async def states(broker: Broker) -> dict[str, State]:
    log = JetStreamEventLog(broker)
    jobs = [await log.load(job_id) for job_id in (LOST, HELD, QUEUED, RUNNING, ENDED)]
    return {job.job_id: job.state for job in jobs if job is not None}


async def over(broker: Broker, *job_ids: str) -> list[Job]:
    """These jobs, once their views say that they are over."""
    left = set(job_ids)
    async with asyncio.timeout(30), followed(JetStreamViews(broker)) as changes:
        async for change in changes:
            if change is not None and change.value is not None and b'"reason":"lost"' in change.value:
                left.discard(change.job_id)
            if not left:
                break
    jobs = [await JetStreamEventLog(broker).load(job_id) for job_id in job_ids]
    return [job for job in jobs if job is not None]


async def prepare(broker: Broker) -> None:
    for job_id in (LOST, HELD, QUEUED, RUNNING):
        await JetStreamPayloads(broker).put(TOKEN, job_id, b"sealed")
    await happen(broker, RUNNING, submitted())
    queues = await work_queues(broker)
    await pulled(queues)
    await happen(broker, RUNNING, started())
    await happen(broker, LOST, submitted(), started())
    await happen(broker, HELD, submitted(), started(), held())
    await happen(broker, QUEUED, submitted())
    await happen(broker, ENDED, submitted(), started(), ended())
    await in_work(broker, 5)


async def test_only_what_is_in_no_queue_is_ended_and_once(broker: Broker) -> None:
    await prepare(broker)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(working(broker, **SHORT))
        begin = time.monotonic()
        await remove_from_work(broker, LOST, ENDED)
        (job,) = await over(broker, LOST)
        assert time.monotonic() - begin >= 2
        assert (job.state, job.runner) == (State.UNKNOWN, "runner-1")
        await remove_from_work(broker, HELD, QUEUED)
        await over(broker, HELD, QUEUED)
    assert await states(broker) == {
        LOST: State.UNKNOWN,
        HELD: State.UNKNOWN,
        QUEUED: State.UNKNOWN,
        RUNNING: State.RUNNING,
        ENDED: State.SUCCESS,
    }
    ends = [end async for page in Stream(broker, EVENTS).counts(event_filter("ended")) for end in page]
    assert len(ends) == 4
    assert MISSING.encode() in (await JetStreamViews(broker).get(LOST)).value  # type: ignore[union-attr, operator]


async def test_a_queue_goes_on_behind_a_job_that_is_over(broker: Broker) -> None:
    queues = await work_queues(broker)
    await happen(broker, ENDED, submitted())
    await happen(broker, QUEUED, submitted())
    await pulled(queues)
    await happen(broker, ENDED, started(), ended())
    begin = time.monotonic()
    async with working(broker, **SHORT), asyncio.timeout(PATIENCE):
        assert await queues.pull(TOKEN, 0.1) is None
        while (delivery := await queues.pull(TOKEN, 1)) is None:
            pass
    assert f".{QUEUED}." in delivery.subject
    assert time.monotonic() - begin >= 2
    assert await JetStreamHistory(broker).in_work() == {Place(TOKEN, QUEUED)}


async def test_what_was_acknowledged_is_removed_whatever_it_says(broker: Broker) -> None:
    """Also what names no job, for which nothing says that it is over."""
    queues = await work_queues(broker)
    for job_id in ("no-job", "f" * 24):
        await broker.publish(f"ev.{job_id}.{TOKEN}.submitted", b"{}")
        await broker.request((await pulled(queues)).ack_subject, Msg.Ack.Ack)
    await happen(broker, QUEUED, submitted())
    await in_work(broker, 3)
    async with working(broker, **SHORT):
        await until(JetStreamHistory(broker).in_work, lambda found: found == {Place(TOKEN, QUEUED)})


@pytest.mark.soak
async def test_an_outage_ends_no_job_that_goes_on(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker:
        await prepare(broker)
        async with working(broker, **SHORT):
            await remove_from_work(broker, LOST)
            await nats_process.restart()
            await broker.wait_connected()
            await over(broker, LOST)
        after = await states(broker)
    assert [after[job_id] for job_id in (HELD, QUEUED, RUNNING)] == [State.RUNNING, State.QUEUED, State.RUNNING]


async def test_a_work_stream_that_was_made_anew_has_all_its_jobs(nats_process: NatsProcess) -> None:
    """It is filled again from EVENTS: nothing is missing, and what has ended stays as it is."""
    async with connected(nats_process.url) as broker:
        await prepare(broker)
        sweeper = build_sweeper(ProjectorSettings.model_validate(SHORT), broker, ServerClock(broker))
        await broker.api(f"STREAM.DELETE.{WORK}")
    async with connected(nats_process.url) as broker:
        history = JetStreamHistory(broker)
        await in_work(broker, 5)
        async with asyncio.timeout(30):
            while (strays := await history.strays()) is None:
                await sweeper.sweep()
        assert strays == (set(), {Place(TOKEN, ENDED)})
