"""Views whose bucket somebody has deleted or purged, or whose log was lost: the projector writes them again."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from stint.core.names.streams import EVENTS, JOBS_BUCKET, PROJECTOR_DURABLE, kv_stream
from stint.jetstream import (
    Broker,
    EventFeed,
    JetStreamHistory,
    JetStreamPayloads,
    JetStreamViews,
    ServerClock,
)
from stint.ports import Place, StreamState
from stint.process import waiting
from stint.process.settings import ProjectorSettings
from stint_projector import auditor
from stint_projector.__main__ import build
from stint_projector.follower import DELIVERIES, Follower
from tests.integration.test_janitor import working
from tests.support.brokers import declare_anew, happen
from tests.support.events import TOKEN, ended, rejected, started, submitted
from tests.support.views import all_views, folded, until_shown
from tests.support.waiting import PATIENCE, meanwhile, until

JOBS = [f"{number:024x}" for number in range(20)]
VIEWS = kv_stream(JOBS_BUCKET)
SETTINGS = ProjectorSettings.model_validate({})


async def shown(broker: Broker) -> None:
    """Return once the views are those of the log."""
    await until_shown(JetStreamViews(broker), await folded(broker, JOBS), seconds=PATIENCE)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor, "ROUND", 0.1)
    monkeypatch.setattr(waiting, "RETRY_PAUSE", 0.1)


async def test_events_wait_for_a_bucket_that_is_missing_and_that_is_said_once(broker: Broker) -> None:
    for job_id in JOBS:
        await happen(broker, job_id, submitted(), started(), ended())
    await broker.api(f"STREAM.DELETE.{VIEWS}")
    feed = EventFeed(broker, PROJECTOR_DURABLE, ack_wait=0.1)
    await feed.declare()
    with capture_logs() as logs:
        async with meanwhile(Follower(feed, build(SETTINGS, broker, ServerClock(broker))).run()):
            info = await until(
                lambda: broker.api(f"CONSUMER.INFO.{EVENTS}.{PROJECTOR_DURABLE}"),
                lambda info: info["delivered"]["consumer_seq"] > 2 * DELIVERIES * 3 * len(JOBS),
            )
            assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (0, 3 * len(JOBS))
            told = [(entry["log_level"], entry["event"]) for entry in logs]
            assert told == [("error", "events wait for a stream or bucket that is missing")]
            await declare_anew(broker)
            await shown(broker)


async def test_views_whose_bucket_is_made_anew_or_purged_are_written_again(broker: Broker) -> None:
    for job_id in JOBS[:10]:
        await happen(broker, job_id, submitted())
        await JetStreamPayloads(broker).put(TOKEN, job_id, b"sealed")
    for job_id in JOBS[10:]:
        await happen(broker, job_id, submitted(), rejected() if job_id == JOBS[-1] else ended())
    async with working(broker):
        await shown(broker)
        await broker.api(f"STREAM.DELETE.{VIEWS}")
        await declare_anew(broker)
        await shown(broker)
        await broker.api(f"STREAM.PURGE.{VIEWS}")
        await shown(broker)
    await broker.api(f"STREAM.DELETE.{VIEWS}")
    await declare_anew(broker)
    async with working(broker):  # it was lost while no projector ran
        await shown(broker)


class Tomorrow(ServerClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


async def test_the_history_of_jobs_that_are_long_over_is_not_read_for_views_that_were_lost(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log keeps thirty days, views six hours. A bucket with one view has lost all that it had if it changes."""
    asked = set[str]()
    survey = JetStreamHistory.survey

    async def noted(of: JetStreamHistory, job_ids: Collection[str]) -> Mapping[Place, str]:
        asked.update(job_ids)
        return await survey(of, job_ids)

    monkeypatch.setattr(JetStreamHistory, "survey", noted)
    for job_id in JOBS:
        await happen(broker, job_id, submitted(), ended())
    waiting = "f" * 24
    await happen(broker, waiting, submitted())
    await JetStreamPayloads(broker).put(TOKEN, waiting, b"sealed")
    await broker.api(f"STREAM.DELETE.{VIEWS}")
    await declare_anew(broker)
    projector, history = build(SETTINGS, broker, Tomorrow(broker)), JetStreamHistory(broker)
    async with meanwhile(auditor.Auditor(projector, history, lambda _place: None).run()):
        await until_shown(JetStreamViews(broker), await folded(broker, [waiting]), seconds=PATIENCE)
    assert asked == {waiting}


async def test_the_view_of_a_job_in_a_log_that_was_lost_gives_way_to_that_of_the_new_one(broker: Broker) -> None:
    """As with an `Idempotency-Key` that names the job again. The new log counts from 1, and is behind the old view."""
    for job_id in JOBS:
        await happen(broker, job_id, submitted(), started(), ended())
    async with working(broker):
        await shown(broker)
        await broker.api(f"STREAM.DELETE.{EVENTS}")
        await declare_anew(broker)
        again = JOBS[:5]
        for job_id in again:
            await happen(broker, job_id, submitted())
        wanted = await folded(broker, again)
        await until(lambda: all_views(broker), lambda found: found == wanted)


async def test_a_bucket_in_which_nothing_changes_is_not_compared_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that has always been empty, nor one that became so by itself."""
    sweeps, looks = 0, asyncio.Semaphore(0)
    sweep, state = auditor.Auditor.sweep, JetStreamViews.state

    async def counted(of: auditor.Auditor, *, rest: float = 0) -> None:
        nonlocal sweeps
        sweeps += 1
        await sweep(of, rest=rest)

    async def looked(of: JetStreamViews) -> StreamState:
        looks.release()
        return await state(of)

    monkeypatch.setattr(auditor.Auditor, "sweep", counted)
    monkeypatch.setattr(JetStreamViews, "state", looked)
    async with working(broker), asyncio.timeout(PATIENCE):
        for _ in range(5):
            await looks.acquire()
        assert sweeps == 1
        await JetStreamViews(broker).put(JOBS[0], b"{}", revision=0, ttl=None)
        await broker.api(f"STREAM.PURGE.{VIEWS}")
        for _ in range(10):
            await looks.acquire()
        assert sweeps <= 2
