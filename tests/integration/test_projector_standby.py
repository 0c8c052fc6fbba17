"""Several projectors on a real NATS server: slow, frozen, killed, and with a feed that has gaps and repeats."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from stint.core.names.streams import EVENTS, JOBS_BUCKET, PROJECTOR_DURABLE, kv_stream
from stint.core.view import parse_time
from stint.jetstream import Broker, EventFeed, JetStreamViews
from stint.jetstream.consuming.feed import ACK_WAIT, BATCH
from stint.jetstream.streams.stream import Stream
from stint_projector.follower import HEARTBEATS, Follower
from stint_projector.project import Projected, Projector
from stint_projector.rebuild import rebuild
from tests.integration.test_projector import projector
from tests.support.brokers import connected, happen
from tests.support.events import ended, held, kill_requested, launched, released, started, submitted
from tests.support.servers import NatsProcess, ProjectorProcess, running
from tests.support.views import all_views, folded, until_shown
from tests.support.waiting import PATIENCE, meanwhile, until

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


class Slow(Projector):
    """Waits before each projection until it may go on, and counts what it is asked for."""

    def __init__(self, inner: Projector) -> None:
        self.inner = inner
        self.may = asyncio.Event()
        self.asked: Counter[str] = Counter()

    async def project(self, job_id: str, *, at_least: int = 0) -> Projected | None:
        self.asked[job_id] += 1
        await self.may.wait()
        return await self.inner.project(job_id, at_least=at_least)

    async def project_all(self, changed: Sequence[Projected]) -> Sequence[Projected] | None:
        self.asked.update(known.job.job_id for known in changed)
        await self.may.wait()
        return await self.inner.project_all(changed)


class Counting(EventFeed):
    """Tells when it has kept its events for twice as long as the ack wait, which is that of the service."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker, PROJECTOR_DURABLE)
        self.rounds = 0
        self.long = asyncio.Event()

    async def heartbeat(self) -> None:
        await super().heartbeat()
        self.rounds += len(self._held) >= BATCH
        if self.rounds > 2 * HEARTBEATS:
            self.long.set()


@pytest.mark.soak
async def test_a_slow_projector_keeps_what_it_has(broker: Broker) -> None:
    """As many events as there can be wait for twice as long as the server waits for an ack: none comes again."""
    job_ids = [f"{number:024x}" for number in range(BATCH + 50)]
    for job_id in job_ids:
        await happen(broker, job_id, submitted())
    slow, feed = Slow(projector(broker)), Counting(broker)
    async with meanwhile(Follower(feed, slow).run()):
        async with asyncio.timeout(60):
            await feed.long.wait()
        assert (await consumer(broker))["num_redelivered"] == 0
        slow.may.set()
        await until_shown(JetStreamViews(broker), await folded(broker, job_ids), seconds=30)
        await feed_is_empty(broker)
    assert set(slow.asked.values()) == {1}


async def test_a_consumer_of_an_older_version_is_brought_up_to_date(broker: Broker) -> None:
    await EventFeed(broker, PROJECTOR_DURABLE, ack_wait=30).declare()
    await happen(broker, "0" * 24, submitted())
    for _ in range(2):
        await EventFeed(broker, PROJECTOR_DURABLE).declare()
        assert (await consumer(broker))["config"]["ack_wait"] == ACK_WAIT * 10**9
    assert (await consumer(broker))["num_pending"] == 1
