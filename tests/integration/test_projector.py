"""Projectors on a real NATS server: one, and several that are slow, frozen or killed."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import pytest

from stint.core.errors import BrokerUnavailableError, ConfigError
from stint.core.names.streams import EVENTS, JOBS_BUCKET, PROJECTOR_DURABLE, kv_stream
from stint.core.names.subjects import EventAddress
from stint.core.view import parse_time
from stint.jetstream import Broker, EventFeed, JetStreamViews, ServerClock
from stint.jetstream.consuming.feed import ACK_WAIT
from stint.jetstream.streams.stream import Stream
from stint.process.environment import load
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import build
from stint_projector.follower import DELIVERIES, Follower
from stint_projector.project import CONCURRENCY, Projected, Projector
from stint_projector.rebuild import rebuild, serve
from tests.support.brokers import connected, happen
from tests.support.events import TOKEN, deleted, ended, held, kill_requested, launched, released, started, submitted
from tests.support.servers import NatsProcess, ProjectorProcess, running
from tests.support.views import all_views, folded, until_shown
from tests.support.waiting import PATIENCE, meanwhile, until, until_true

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


async def test_an_event_with_too_many_levels_holds_up_no_view(broker: Broker) -> None:
    """Even in a field that nobody knows: all views would wait behind it."""
    body = b'{"type":"submitted","unknown":' + b"[" * 5000 + b"]" * 5000 + b"}"
    await broker.publish(EventAddress("submitted", TOKEN, JOBS[0]).subject, body)
    await happen(broker, JOBS[1], submitted())
    async with following(broker):
        await until(lambda: JetStreamViews(broker).get(JOBS[1]), lambda stored: stored is not None)


@pytest.mark.soak
async def test_a_server_that_goes_away_is_waited_for(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker, following(broker):
        await happen(broker, JOBS[0], submitted())
        await until_shown(JetStreamViews(broker), await folded(broker, JOBS[:1]), seconds=PATIENCE)
        await nats_process.restart()
        await broker.wait_connected()
        await happen(broker, JOBS[1], submitted())
        await until_shown(JetStreamViews(broker), await folded(broker, JOBS[:2]), seconds=PATIENCE)


@pytest.mark.soak
async def test_a_rebuild_waits_for_its_server_and_goes_on_where_it_was(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rebuild_one, almost_done, gone = Projector.rebuild, asyncio.Event(), asyncio.Event()

    async def counted(self: Projector, job_id: str) -> None:
        if job_id == JOBS[-2]:
            almost_done.set()
            await gone.wait()
        await rebuild_one(self, job_id)
        done.append(job_id)

    async def leave_and_come_back() -> None:
        await almost_done.wait()
        await nats_process.kill()
        gone.set()
        await nats_process.start()

    monkeypatch.setattr(Projector, "rebuild", counted)
    async with connected(nats_process.url) as broker:
        for job_id in JOBS:
            await happen(broker, job_id, submitted())
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(leave_and_come_back())
            assert await rebuild(projector(broker)) == len(JOBS)
        assert await all_views(broker) == await folded(broker, JOBS)
    assert len(done) <= len(JOBS) + CONCURRENCY, "it did not begin again"


async def test_a_rebuild_whose_bucket_is_deleted_ends_with_a_sentence(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild_one = Projector.rebuild

    async def deleted_first(self: Projector, job_id: str) -> None:
        await broker.api(f"STREAM.DELETE.{kv_stream(JOBS_BUCKET)}")
        await rebuild_one(self, job_id)

    monkeypatch.setattr(Projector, "rebuild", deleted_first)
    async with connected(nats_process.url) as broker:
        await happen(broker, JOBS[0], submitted())
        with pytest.raises(ConfigError, match=r"stream not found.*Start `stint rebuild` again\."):
            await serve(load(ProjectorSettings, {"NATS_URL": nats_process.url}))


async def test_an_event_is_kept_as_long_as_nats_is_unavailable_but_not_if_it_fails_by_itself(
    broker: Broker,
) -> None:
    """As when the bucket has no leader. The other would come again for ever, and enough of them would leave no place.

    The server's deliveries count, not the attempts: one may be lost with its pull, or come while another waits here.
    """
    errors = {JOBS[0]: BrokerUnavailableError(), JOBS[1]: ZeroDivisionError()}
    attempts = Counter[str]()

    class Failing:
        async def project(self, job_id: str, *, at_least: int = 0) -> None:
            del at_least
            attempts[job_id] += 1
            raise errors[job_id]

        async def project_all(self, changed: Sequence[Projected]) -> None:
            raise ZeroDivisionError(changed)

    for job_id in errors:
        await happen(broker, job_id, submitted())
    feed = EventFeed(broker, "failing", ack_wait=0.1)
    await feed.declare()
    async with meanwhile(Follower(feed, cast("Projector", Failing())).run()):
        info = await until(
            lambda: broker.api("CONSUMER.INFO.EVENTS.failing"),
            lambda info: info["num_ack_pending"] == 1 and not info["num_pending"],
        )
        assert info["delivered"]["consumer_seq"] > 1.5 * DELIVERIES, "of both together"
        await until_true(lambda: attempts[JOBS[0]] > 2 * DELIVERIES)
        assert (await broker.api("CONSUMER.INFO.EVENTS.failing"))["ack_floor"]["stream_seq"] == 0, "it is the second"
    assert attempts[JOBS[1]] > 1


TAKEOVER = timedelta(seconds=10)
"""Time in which a view must be whole again."""


async def last_write(broker: Broker, stream: str) -> datetime:
    """When a stream got its last message, by the server's clock."""
    return parse_time(str((await Stream(broker, stream).info())["state"]["last_ts"]))


LIVES: list[tuple[Any, ...]] = [
    (submitted,),
    (submitted, started, launched, ended),
    (submitted, kill_requested, lambda: ended("failed", "killed")),
    (submitted, started, held, released, lambda: ended("unknown", "lost")),
    (submitted, started, launched, kill_requested),
]


@pytest.mark.soak
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "killed"])
@pytest.mark.timeout(180)
async def test_a_standby_takes_over_amid_a_load(nats_process: NatsProcess, tmp_path: Path, *, frozen: bool) -> None:
    environ = {"NATS_URL": nats_process.url}
    job_ids = [f"{number:024x}" for number in range(900)]
    failed = datetime.max.replace(tzinfo=UTC)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(connected(nats_process.url))
        first, second = (ProjectorProcess(tmp_path / name, environ=environ) for name in ("first", "second"))
        for process in (first, second):
            await stack.enter_async_context(running(process))
        for start in range(0, len(job_ids), 100):
            lives = zip(job_ids[start : start + 100], cycle(LIVES), strict=False)
            await asyncio.gather(*(happen(broker, job_id, *(fact() for fact in life)) for job_id, life in lives))
            if start == 400:
                first.pause() if frozen else await first.kill()
                failed = datetime.now(UTC)
        wanted = await folded(broker, job_ids)
        await until_shown(JetStreamViews(broker), wanted, seconds=PATIENCE)
        behind = await last_write(broker, kv_stream(JOBS_BUCKET)) - max(failed, await last_write(broker, EVENTS))
        assert behind < TAKEOVER
        if frozen:
            first.resume()
            await feed_is_empty(broker)
            assert await all_views(broker) == wanted, "what it had in its hands does no harm"
        assert await rebuild(projector(broker)) == len(job_ids)
        assert await all_views(broker) == wanted


async def consumer(broker: Broker) -> dict[str, Any]:
    return await broker.api(f"CONSUMER.INFO.{EVENTS}.{PROJECTOR_DURABLE}")


async def feed_is_empty(broker: Broker) -> None:
    await until(
        lambda: consumer(broker),
        lambda info: "error" not in info and not info["num_pending"] and not info["num_ack_pending"],
    )


async def test_a_consumer_of_an_older_version_is_brought_up_to_date(broker: Broker) -> None:
    await EventFeed(broker, PROJECTOR_DURABLE, ack_wait=30).declare()
    await happen(broker, "0" * 24, submitted())
    for _ in range(2):
        await EventFeed(broker, PROJECTOR_DURABLE).declare()
        assert (await consumer(broker))["config"]["ack_wait"] == ACK_WAIT * 10**9
    assert (await consumer(broker))["num_pending"] == 1
