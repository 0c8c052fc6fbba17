"""The projectors' feed on a real NATS server: order, turns, repeats."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import cast

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from stint.core.events import EVENT_BYTES
from stint.core.names.streams import EVENTS
from stint.core.view import parse_time
from stint.jetstream import Broker, Delivered, EventFeed
from stint.jetstream.consuming import feed as consumed
from stint.jetstream.consuming.feed import BATCH
from stint.jetstream.streams.stream import Stream
from stint.process.waiting import for_each
from stint_projector.follower import Follower, job_of
from stint_projector.project import Projected, Projector
from tests.support.brokers import connected, happen
from tests.support.events import submitted
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, meanwhile, until

JOBS = [f"{number:024x}" for number in range(BATCH + 100)]


async def submit(broker: Broker, jobs: list[str], image: str = "") -> None:
    async def one(job_id: str) -> None:
        await happen(broker, job_id, replace(submitted(), container_image=image))

    await for_each(jobs, one, at_once=100)


async def receive(feed: EventFeed, count: int) -> list[Delivered]:
    """So many events, acknowledged."""
    await feed.declare()
    events: list[Delivered] = []
    async with asyncio.timeout(PATIENCE), aclosing(feed.batches()) as batches:
        while len(events) < count:
            batch = await anext(batches)
            await feed.ack(batch)
            events += batch
    return events


async def test_events_come_in_order_with_the_streams_time_and_numbers_without_a_gap(broker: Broker) -> None:
    feed = EventFeed(broker, "feed")
    await feed.declare()
    await submit(broker, JOBS)
    events = await receive(feed, len(JOBS))
    assert [event.sequence for event in events] == [event.number for event in events] == list(range(1, len(JOBS) + 1))
    assert {job_of(event) for event in events} == set(JOBS)
    assert all(event.first and event.deliveries == 1 for event in events)
    stored = await Stream(broker, EVENTS).get({"seq": events[0].sequence})
    assert stored is not None
    assert parse_time(stored.headers["Nats-Time-Stamp"]) == parse_time(events[0].time) < datetime.now(UTC)


async def test_nats_sends_pulls_of_the_largest_events_without_closing_the_connection(broker: Broker) -> None:
    await submit(broker, JOBS, image="x" * (EVENT_BYTES - 1024))
    connection_lost = broker.lost
    events = await receive(EventFeed(broker, "feed"), len(JOBS))
    assert [event.number for event in events] == list(range(1, len(JOBS) + 1))
    assert broker.lost is connection_lost, "it was not made again"
    assert not connection_lost.is_set()
    assert BATCH * EVENT_BYTES <= 32 * 2**20


async def test_a_reader_keeps_its_turn_from_its_second_pull_on(broker: Broker) -> None:
    """Without the pin of the first events the server would let the pull wait until it expires."""
    feed = EventFeed(broker, "feed")
    await feed.declare()
    await submit(broker, JOBS)
    pulls: list[dict[str, object]] = []

    async def note(message: Msg) -> None:
        pulls.append(json.loads(message.data))

    async with broker.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.feed", cb=note):
        await receive(feed, len(JOBS))
    first, second, *_ = pulls
    assert ("id" in first, "id" in second) == (False, True)


@pytest.mark.soak
async def test_what_was_not_acknowledged_comes_again_and_is_not_taken_for_new(broker: Broker) -> None:
    feed = EventFeed(broker, "feed", ack_wait=0.5)
    await feed.declare()
    await submit(broker, JOBS[:1])
    async with aclosing(feed.batches()) as batches:
        assert [event.first for event in await anext(batches)] == [True]
    (again,) = await receive(EventFeed(broker, "feed", ack_wait=0.5), 1)
    assert (again.sequence, again.first, again.deliveries > 1) == (1, False, True)


async def test_a_feed_that_was_lost_starts_over_and_takes_nothing_for_new(broker: Broker) -> None:
    feed = EventFeed(broker, "feed")
    await feed.declare()
    await submit(broker, JOBS[:3])
    await receive(feed, 3)
    await broker.api(f"CONSUMER.DELETE.{EVENTS}.feed")
    assert [event.first for event in await receive(feed, 3)] == [False] * 3
    await submit(broker, JOBS[3:4])
    assert [event.first for event in await receive(feed, 1)] == [True]


async def test_one_reader_has_all_until_it_leaves(nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumed, "TURN", 600.0)
    async with connected(nats_process.url) as one, connected(nats_process.url) as other:
        first, second = EventFeed(one, "feed"), EventFeed(other, "feed")
        await submit(one, JOBS[:1])
        await receive(first, 1)
        await second.declare()
        async with aclosing(second.batches()) as batches:
            waiting = asyncio.ensure_future(anext(batches))
            for number in range(1, 4):
                await submit(one, JOBS[number : number + 1])
                assert [event.number for event in await receive(first, 1)] == [number + 1]
            await submit(one, JOBS[4:5])
            assert not waiting.done()
            await first.leave()
            async with asyncio.timeout(PATIENCE):  # far less than its turn would last
                assert [job_of(event) for event in await waiting] == JOBS[4:5]


@pytest.mark.soak
async def test_a_slow_projector_keeps_what_it_has_although_another_reader_asks(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its heartbeats the other one would get the first event before the second one for a third time."""
    monkeypatch.setattr(consumed, "TURN", 1.0)
    monkeypatch.setattr(consumed, "PULL_WAIT", 0.5)
    async with connected(nats_process.url) as one, connected(nats_process.url) as other:
        slow, reader = (EventFeed(broker, "feed", ack_wait=1.5) for broker in (one, other))
        begun = asyncio.Event()

        class Slow:
            async def project_all(self, changed: Sequence[Projected]) -> None:
                begun.set()
                await asyncio.Event().wait()
                del changed

        await submit(one, JOBS[:1])
        async with meanwhile(Follower(slow, cast("Projector", Slow())).run()), asyncio.timeout(PATIENCE):
            await begun.wait()
            await until(lambda: one.api(f"CONSUMER.INFO.{EVENTS}.feed"), lambda info: info["num_waiting"] == 0)
            await submit(one, JOBS[1:2])
            seen: list[tuple[int, int]] = []
            while (2, 3) not in seen:
                await reader.declare()
                async with aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        seen += [(event.sequence, event.deliveries) for event in batch]
                        if (2, 3) in seen:
                            break
    assert {sequence for sequence, _ in seen} == {2}
