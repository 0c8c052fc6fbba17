"""The projector on a real NATS server, as a process would run it."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError
from stint.core.names.streams import PROJECTOR_DURABLE
from stint.core.names.subjects import EventAddress
from stint.core.view import JobView
from stint.jetstream import Broker, EventFeed, JetStreamViews, ServerClock
from stint.process.background import Background, BackgroundTask
from stint.process.settings import ProjectorSettings
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.query import Page
from stint_projector.__main__ import build
from stint_projector.follower import DELIVERIES, Follower
from stint_projector.project import Projected, Projector
from stint_projector.rebuild import rebuild
from tests.support.brokers import connected, happen
from tests.support.events import TOKEN, deleted, ended, started, submitted
from tests.support.servers import NatsProcess
from tests.support.views import all_views, folded, until_shown
from tests.support.waiting import PATIENCE, meanwhile, until

JOBS = [f"{number:024x}" for number in range(30)]


def projector(broker: Broker) -> Projector:
    return build(ProjectorSettings.model_validate({}), broker, ServerClock(broker))


def following(broker: Broker) -> AbstractAsyncContextManager[None]:
    return meanwhile(Follower(EventFeed(broker, PROJECTOR_DURABLE), projector(broker)).run())


async def test_two_projectors_and_a_rebuild_give_the_same_bytes(broker: Broker) -> None:
    async with following(broker), following(broker):
        for number, job_id in enumerate(JOBS):
            await happen(broker, job_id, submitted())
            if number % 2:
                await happen(broker, job_id, started(), ended("failed", "exit_code", number))
        await happen(broker, JOBS[0], deleted())
        wanted = await folded(broker, JOBS)
        assert wanted.keys() == {*JOBS[1:]}
        await until_shown(JetStreamViews(broker), wanted, seconds=PATIENCE)
        assert await rebuild(projector(broker)) == len(JOBS)
        assert await all_views(broker) == wanted


async def test_a_rebuild_is_seen_by_every_api(broker: Broker) -> None:
    """Also that jobs are gone which exist nowhere, and never a shorter list than there are jobs."""
    views = JetStreamViews(broker)
    for job_id in JOBS:
        await happen(broker, job_id, submitted())
        await projector(broker).project(job_id)
    stored = await views.get(JOBS[0])
    assert stored is not None
    assert stored.value is not None
    ghost = msgspec.structs.replace(msgspec.json.decode(stored.value, type=JobView), job_id="f" * 24)
    await views.put(ghost.job_id, encode(ghost), revision=0, ttl=None)
    retention = timedelta(hours=6)
    indexes = [
        ListIndex(views, connected=broker.wait_connected, retention=retention, now=lambda: datetime.now(UTC))
        for _ in range(2)
    ]
    parts = [BackgroundTask(name=f"index-{n}", run=index.run, missing="A list.") for n, index in enumerate(indexes)]
    async with asyncio.timeout(PATIENCE), Background(*parts).running():
        for index in indexes:
            await index.ready.wait()
            assert await listed(index) == {ghost.job_id, *JOBS}
        assert await rebuild(projector(broker)) == len(JOBS)
        for index in indexes:
            while ghost.job_id in (seen := await listed(index)):
                assert seen.issuperset(JOBS)
                await asyncio.sleep(0.02)


async def listed(index: ListIndex) -> set[str]:
    return {job.job_id for job in (await index.find(Page(limit=100))).jobs}


async def test_an_event_with_too_many_levels_holds_up_no_view(broker: Broker) -> None:
    """Even in a field that nobody knows: all views would wait behind it."""
    body = b'{"type":"submitted","unknown":' + b"[" * 5000 + b"]" * 5000 + b"}"
    await broker.publish(EventAddress("submitted", TOKEN, JOBS[0]).subject, body)
    await happen(broker, JOBS[1], submitted())
    async with following(broker):
        await until(lambda: JetStreamViews(broker).get(JOBS[1]), lambda stored: stored is not None)


async def test_a_server_that_goes_away_is_waited_for(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker, following(broker):
        await happen(broker, JOBS[0], submitted())
        await until_shown(JetStreamViews(broker), await folded(broker, JOBS[:1]), seconds=PATIENCE)
        await nats_process.restart()
        await broker.wait_connected()
        await happen(broker, JOBS[1], submitted())
        await until_shown(JetStreamViews(broker), await folded(broker, JOBS[:2]), seconds=PATIENCE)


async def test_an_event_is_kept_while_views_cannot_be_written_however_long_that_takes(broker: Broker) -> None:
    """As when the bucket has no leader, but the log has one."""
    attempts, projected = 0, asyncio.Event()

    class Waiting:
        async def project(self, job_id: str, *, at_least: int = 0) -> None:
            nonlocal attempts
            attempts += 1
            if attempts <= 2 * DELIVERIES:
                raise BrokerUnavailableError(job_id, at_least)
            projected.set()

        async def project_all(self, changed: Sequence[Projected]) -> None:
            del changed

    await happen(broker, JOBS[0], submitted())
    feed = EventFeed(broker, "waiting", ack_wait=0.1)
    await feed.declare()
    async with asyncio.timeout(PATIENCE), meanwhile(Follower(feed, cast("Projector", Waiting())).run()):
        await projected.wait()


async def test_an_event_that_fails_every_time_is_left_out_in_the_end(broker: Broker) -> None:
    """It would come again for ever, and enough of them would leave no place for others.

    The server's deliveries count, not the attempts: one may be lost with its pull, or come while another waits here.
    """
    attempts = 0

    class Failing:
        async def project(self, job_id: str, *, at_least: int = 0) -> None:
            nonlocal attempts
            attempts += 1
            raise ZeroDivisionError(job_id, at_least)

        async def project_all(self, changed: Sequence[Projected]) -> None:
            raise ZeroDivisionError(changed)

    await happen(broker, JOBS[0], submitted())
    feed = EventFeed(broker, "failing", ack_wait=0.1)
    await feed.declare()
    async with meanwhile(Follower(feed, cast("Projector", Failing())).run()):
        info = await until(
            lambda: broker.api("CONSUMER.INFO.EVENTS.failing"), lambda info: info["ack_floor"]["stream_seq"] == 1
        )
    assert info["num_ack_pending"] == info["num_pending"] == 0
    assert info["delivered"]["consumer_seq"] >= DELIVERIES
    assert attempts > 1
