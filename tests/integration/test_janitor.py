"""What is removed from a real NATS server, by projectors as processes would run them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from stint.core.job import TERMINAL
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, LOGS, PAYLOADS, PROJECTOR_DURABLE, WORK, consumer_name
from stint.core.names.subjects import event_filter, log_subject, payload_subject, unreadable_submission
from stint.core.view import parse_time
from stint.jetstream import (
    Broker,
    EventFeed,
    JetStreamEventLog,
    JetStreamHistory,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
    ServerClock,
)
from stint.jetstream.streams import clock
from stint.ports import Place
from stint.process.settings import ProjectorSettings
from stint_projector import auditor, project
from stint_projector.__main__ import build, build_background
from stint_projector.auditor import Auditor
from stint_projector.follower import Follower
from stint_projector.janitor import EventJanitor, Janitor
from tests.support.brokers import connected, happen, loaded, work_queues
from tests.support.events import TOKEN, deleted, ended, kill_requested, launched, rejected, started, submitted
from tests.support.outputs import Writer, places_of
from tests.support.servers import NatsProcess
from tests.support.views import all_views, folded, followed
from tests.support.waiting import meanwhile, until

JOBS = [f"{number:024x}" for number in range(20)]
GOES_ON, QUEUED, DELETED = "a" * 24, "b" * 24, "d" * 24

ADVISORIES = "$JS.EVENT.ADVISORY.API"
"""Where the server tells of each request to its JetStream API."""


def working(broker: Broker, **settings: str) -> AbstractAsyncContextManager[None]:
    """A projector with these settings, as its process runs it."""
    return meanwhile(build_background(ProjectorSettings.model_validate(settings), broker, ServerClock(broker)).run())


async def store(broker: Broker, job_id: str) -> None:
    await JetStreamPayloads(broker).put(TOKEN, job_id, b"sealed" * 100_000)
    writer = Writer(JetStreamOutput(broker), TOKEN, job_id)
    for _ in range(3):
        await writer.write(b"line\n")


async def take_all(broker: Broker, but: str) -> None:
    """Empty the queue as a runner does, up to this job."""
    queues = await work_queues(broker)
    while delivery := await queues.pull(TOKEN, 10):
        if f".{but}." in delivery.subject:
            return
        await delivery.ack()


async def held(broker: Broker, stream: str) -> int:
    return int((await broker.api(f"STREAM.INFO.{stream}"))["state"]["messages"])


async def until_purged(broker: Broker, done: Callable[[], Awaitable[bool]]) -> datetime | None:
    """Look after each purge that the server tells of; returns when it was, None if all was done before."""
    async with asyncio.timeout(30), broker.subscribe(ADVISORIES) as advisories:
        if await done():
            return None
        async for advisory in advisories.messages:
            if b".PURGE." in advisory.data and await done():
                return parse_time(json.loads(advisory.data)["timestamp"])
    raise AssertionError


async def test_two_projectors_remove_all_that_is_over_and_nothing_else(broker: Broker) -> None:
    async with working(broker, STINT_RETENTION="2", STINT_HISTORY="4"), working(broker, STINT_RETENTION="2"):
        for job_id in [*JOBS, DELETED, GOES_ON, QUEUED]:
            await happen(broker, job_id, submitted())
            await store(broker, job_id)
        for number, job_id in enumerate(JOBS):
            end = ended() if number % 3 else ended("unknown", "lost")
            await happen(broker, job_id, *([started(), launched(), end] if number % 4 else [rejected()]))
        await happen(broker, DELETED, ended("failed"), deleted())
        await happen(broker, GOES_ON, started(), kill_requested())
        await JetStreamEventLog(broker).append(*unreadable_submission(7)[1:], rejected())
        await broker.publish("ev.junk.MF.from_the_future", b"\xff")
        await take_all(broker, but=QUEUED)
        alive = [Place(TOKEN, GOES_ON), Place(TOKEN, QUEUED)]

        async def only_the_living() -> bool:
            return (await held(broker, EVENTS), await held(broker, LOGS), await held(broker, PAYLOADS)) == (4, 6, 4)

        await until_purged(broker, only_the_living)
        assert await places_of(JetStreamOutput(broker)) == set(alive)
        assert await JetStreamPayloads(broker).places() == set(alive)
        for job_id in (GOES_ON, QUEUED):
            assert await JetStreamPayloads(broker).get(TOKEN, job_id, 2) == b"sealed" * 100_000
        wanted = await folded(broker, [GOES_ON, QUEUED])
        await until(lambda: all_views(broker), lambda found: found == wanted)


async def until_none_is_shown(broker: Broker) -> None:
    async with asyncio.timeout(30), followed(JetStreamViews(broker)) as changes:
        shown: set[str] = set()
        told = False
        async for change in changes:
            told = told or change is None
            if change is not None:
                (shown.discard if change.value is None else shown.add)(change.job_id)
            if told and not shown:
                return


@pytest.mark.soak
async def test_after_an_outage_all_is_swept_again(nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    swept, sweep = asyncio.Event(), Auditor.sweep

    async def sweep_and_tell(of: Auditor, *, rest: float) -> None:
        await sweep(of, rest=rest)
        swept.set()

    monkeypatch.setattr(Auditor, "sweep", sweep_and_tell)
    monkeypatch.setattr(auditor, "ROUND", 600.0)
    async with connected(nats_process.url) as broker:
        views = JetStreamViews(broker)
        await views.put(JOBS[0], b"{}", revision=0, ttl=None)
        async with working(broker):
            await until_none_is_shown(broker)
            await swept.wait()  # else the first sweep finds what the second is to find
            await views.put(JOBS[1], b"{}", revision=0, ttl=None)
            await nats_process.restart()
            await broker.wait_connected()
            await until_none_is_shown(broker)


class House:
    """Janitors whose clock is `now`."""

    def __init__(self, broker: Broker) -> None:
        self.now = datetime.now(UTC)
        history = JetStreamHistory(broker)
        self.projector = build(ProjectorSettings.model_validate({}), broker, ServerClock(broker))
        self.projector.now = lambda: self.now
        self.janitor = Janitor(self.projector, history)
        self.auditor = Auditor(self.projector, history, lambda _place: None)
        self.events = EventJanitor(self.projector, history, keep=self.projector.retention)

    async def clean(self) -> None:
        await self.auditor.sweep()
        await self.janitor.expire()
        await self.events.forget()


class Ahead(datetime):
    """The clock of a machine that is a year ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=365)


async def test_a_clock_that_is_ahead_removes_nothing(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the log are the server's, and so is the clock that judges them."""
    for module in (project, clock):
        monkeypatch.setattr(module, "datetime", Ahead)
    server = ServerClock(broker)
    with capture_logs() as said:
        await server.known()
    assert [line["event"] for line in said] == ["this machine's clock differs from that of NATS, which counts"]
    house = House(broker)
    house.projector.now = build(ProjectorSettings.model_validate({}), broker, server).now
    await happen(broker, JOBS[0], submitted(), started())
    await store(broker, JOBS[0])
    await happen(broker, JOBS[0], ended())
    assert await house.projector.project(JOBS[0])
    await house.clean()
    assert (await held(broker, EVENTS), await held(broker, LOGS)) == (3, 3)
    assert await all_views(broker) == await folded(broker, JOBS[:1])


@pytest.mark.parametrize(("wildcard", "copies"), [("*", 4), (">", 2)])
async def test_names_that_are_wildcards_take_nothing_else_along(broker: Broker, wildcard: str, copies: int) -> None:
    """NATS stores what is published there, and a purge by such a name would empty the stream."""
    for job_id in (GOES_ON, JOBS[0]):
        await store(broker, job_id)
        await happen(broker, job_id, submitted(), started())
    for subject in (
        log_subject(wildcard, "*"),
        log_subject("*", wildcard),
        log_subject(TOKEN, wildcard),
        payload_subject(wildcard, "*", "*"),
        payload_subject("*", wildcard, 1),
        payload_subject(TOKEN, wildcard, 1),
        event_filter("submitted", TOKEN, wildcard),
        event_filter("submitted", wildcard, JOBS[1]),
        event_filter("ended", wildcard, JOBS[1]),
        event_filter(wildcard, TOKEN, JOBS[1]),
        event_filter("*", "*", wildcard),
    ):
        assert (await broker.publish(subject, b"x"))["seq"]
    house = House(broker)
    house.now += timedelta(days=365)
    await until(lambda: held(broker, WORK), lambda count: count == copies)  # they come a moment later
    await broker.api(f"STREAM.PURGE.{WORK}")
    await house.clean()
    alive = {Place(TOKEN, GOES_ON), Place(TOKEN, JOBS[0])}
    assert await places_of(JetStreamOutput(broker)) == await JetStreamPayloads(broker).places() == alive
    assert len(await folded(broker, [GOES_ON, JOBS[0]])) == 2
    ids = [job_id async for job_id in JetStreamHistory(broker).older_than(house.now)]
    assert set(ids) == {GOES_ON, JOBS[0]}, "what can be named is gone"


async def test_a_chunk_whose_name_is_a_wildcard_goes_with_its_payload(broker: Broker) -> None:
    payloads = JetStreamPayloads(broker)
    await payloads.put(TOKEN, GOES_ON, b"sealed")
    last = [(await broker.publish(payload_subject(TOKEN, JOBS[0], wildcard), b"x"))["seq"] for wildcard in "*>"][-1]
    newest = await payloads.newest(TOKEN, JOBS[0])
    assert newest is not None
    assert newest.sequence == last
    await payloads.purge(TOKEN, JOBS[0], through=last)
    assert await payloads.places() == {Place(TOKEN, GOES_ON)}
    assert await held(broker, PAYLOADS) == 1


async def test_a_feed_goes_on_behind_facts_that_were_forgotten(broker: Broker) -> None:
    """Some were with a reader that died, some nobody had read."""
    feed = EventFeed(broker, PROJECTOR_DURABLE)
    await feed.declare()
    for job_id in JOBS[:5]:
        await happen(broker, job_id, submitted(), ended("failed"))
    async with aclosing(feed.batches()) as batches:
        assert await anext(batches)
    for job_id in JOBS[5:10]:
        await happen(broker, job_id, submitted(), ended("failed"))
    history = JetStreamHistory(broker)
    for job_id in JOBS[:10]:
        assert await history.forget(job_id, before=datetime.now(UTC) + timedelta(minutes=1))
    house = House(broker)
    async with meanwhile(Follower(feed, house.projector).run()):
        await happen(broker, GOES_ON, submitted())
        await until(lambda: JetStreamViews(broker).get(GOES_ON))


async def test_more_facts_than_one_answer_holds_are_forgotten_too(broker: Broker) -> None:
    await happen(broker, JOBS[0], submitted(), ended("failed"))
    for number in range(1100):
        await broker.send(event_filter(f"kind-{number}", TOKEN, JOBS[0]), b"{}")
    await happen(broker, GOES_ON, submitted())
    job = await loaded(JetStreamEventLog(broker), JOBS[0])
    assert job.state in TERMINAL
    assert await JetStreamHistory(broker).forget(JOBS[0], before=datetime.now(UTC) + timedelta(minutes=1))
    assert await held(broker, EVENTS) == 1


async def test_a_fact_that_comes_while_a_job_is_being_forgotten_stays(broker: Broker) -> None:
    class Slow(JetStreamHistory):
        async def _last_of_each(self, patterns: list[str]) -> list[Msg]:
            facts = await super()._last_of_each(patterns)
            await happen(broker, JOBS[0], deleted())
            return facts

    await happen(broker, JOBS[0], submitted(), ended("failed"))
    assert await Slow(broker).forget(JOBS[0], before=datetime.now(UTC) + timedelta(minutes=1))
    assert await held(broker, EVENTS) == 1


async def test_of_a_job_that_was_submitted_twice_its_own_queue_is_forgotten_last(broker: Broker) -> None:
    """Whatever moment a server dies at, the job does not begin anew in the other queue."""
    other, third = queue_token("other"), queue_token("third")
    await happen(broker, JOBS[0], kill_requested(), token=third)
    await happen(broker, JOBS[0], submitted())
    await happen(broker, JOBS[0], submitted("other"), started(), token=other)
    purged: list[str] = []
    async with asyncio.timeout(20), broker.subscribe(ADVISORIES) as advisories:
        await JetStreamHistory(broker).forget(JOBS[0], before=datetime.now(UTC) + timedelta(minutes=1))
        async for advisory in advisories.messages:
            if b".PURGE." in advisory.data:
                request = json.loads(json.loads(advisory.data)["request"])
                purged.append(request["filter"])
            if len(purged) == 3:
                break
    assert purged == [event_filter("*", token, JOBS[0]) for token in (third, other, TOKEN)]
    assert await held(broker, EVENTS) == 0


async def test_queues_go_on_behind_facts_that_were_forgotten(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker:
        for job_id in JOBS:
            await happen(broker, job_id, submitted(), ended("failed"))
        await happen(broker, QUEUED, submitted())
        await take_all(broker, but=QUEUED)
        history = JetStreamHistory(broker)
        for job_id in JOBS:
            assert await history.forget(job_id, before=datetime.now(UTC) + timedelta(minutes=1))
        await nats_process.restart()
        await broker.wait_connected()
        await happen(broker, GOES_ON, submitted())
        await broker.api(f"CONSUMER.DELETE.WORK.{consumer_name(TOKEN)}")  # with the lease that holds the queue
        await take_all(broker, but=GOES_ON)
        assert await history.in_work() == {Place(TOKEN, GOES_ON)}
