"""One server that is killed again and again under a load of appends, or stands still."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.events import Started, Submitted
from stint.core.names.streams import EVENTS, WORK
from stint.jetstream import Broker, JetStreamEventLog
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire import connection
from stint.ports import Outcome
from stint.process.background import cancel
from tests.support import events
from tests.support.brokers import connected, loaded, started
from tests.support.servers import NatsProcess
from tests.support.waiting import meanwhile, until, until_true

pytestmark = pytest.mark.soak

KILLS = 3
WRITERS = 8
BETWEEN = 40
"""Jobs from one kill to the next."""


class Load:
    """Writers that append a submission each, at which two runners then claim the job."""

    def __init__(self, broker: Broker) -> None:
        self.log = JetStreamEventLog(broker)
        self.claims: dict[str, list[tuple[Started, Outcome | None]]] = {}
        self.progress = asyncio.Event()

    async def write(self) -> None:
        while True:
            await self._job(secrets.token_hex(12))

    async def _job(self, job_id: str) -> None:
        fact = events.submitted()
        while (outcome := await self._append(job_id, fact)) in {None, Outcome.UNKNOWN}:
            pass
        assert outcome is Outcome.WON, "a repeat of the very same fact"
        claims = [events.started(f"runner-{number}") for number in range(2)]
        outcomes = await asyncio.gather(*(self._append(job_id, claim) for claim in claims))
        self.claims[job_id] = list(zip(claims, outcomes, strict=True))
        self.progress.set()

    async def _append(self, job_id: str, fact: Submitted | Started) -> Outcome | None:
        """None for what was surely not taken, since it was never sent."""
        try:
            return await self.log.append(events.TOKEN, job_id, fact)
        except BrokerUnavailableError:
            return None

    async def reaches(self, count: int) -> None:
        """Return once that many jobs were written."""
        while len(self.claims) < count:
            self.progress.clear()
            await self.progress.wait()


async def test_what_is_acknowledged_survives_every_kill(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker:
        load = Load(broker)
        writers = [asyncio.create_task(load.write()) for _ in range(WRITERS)]
        async with asyncio.timeout(100):
            for _ in range(KILLS):
                await load.reaches(len(load.claims) + BETWEEN)
                await nats_process.restart()
            await load.reaches(len(load.claims) + BETWEEN)
        await cancel(*writers)
        assert len(load.claims) >= (KILLS + 1) * BETWEEN
        for job_id in load.claims:
            await _check(load, job_id)
        facts = dict([fact async for fact in Stream(broker, EVENTS).counts("ev.*.*.*")])
        assert set(facts.values()) == {1}
        submitted = sum(subject.endswith(".submitted") for subject in facts)
        work = await until(Stream(broker, WORK).info, lambda info: info["state"]["messages"] >= submitted)
        assert work["state"]["messages"] == submitted
    counted = Counter(outcome for claims in load.claims.values() for _, outcome in claims)
    assert counted[Outcome.WON] > KILLS * BETWEEN
    assert counted[Outcome.LOST] > KILLS * BETWEEN


async def _check(load: Load, job_id: str) -> None:
    """Each outcome says what the log says."""
    job = await loaded(load.log, job_id)
    stored = job.fact(Started)
    for claim, outcome in load.claims[job_id]:
        if outcome is Outcome.WON:
            assert stored == claim
        elif outcome is Outcome.LOST:
            assert stored not in {None, claim}
        elif outcome is None:
            assert stored != claim


CHUNK = b"x" * 512 * 1024
CHUNKS = 120
"""Together more than the system keeps for a connection on its way."""


async def test_a_frozen_server_is_left_with_what_it_has_not_taken(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PING_INTERVAL", 0.2)
    async with started(nats_process.url) as broker, stuck(broker, nats_process):
        with capture_logs() as said:
            async with asyncio.timeout(10):
                await broker.lost.wait()
        assert not broker.connected.is_set()
        assert [(line["event"], line["error"]) for line in said] == [
            ("nats connection lost", "pings were not answered: stale connection.")
        ]
        nats_process.resume()
        async with asyncio.timeout(30):
            await broker.wait_connected()


async def test_a_frozen_server_is_left_when_its_connection_is_to_be_replaced(nats_process: NatsProcess) -> None:
    async with started(nats_process.url) as broker, stuck(broker, nats_process):
        lost = broker.lost
        with capture_logs() as said:
            await broker.replace()
        assert lost.is_set()
        assert said == [], "it was meant to be left"


async def test_a_connection_to_a_frozen_server_is_closed_with_what_it_has_not_taken(nats_process: NatsProcess) -> None:
    async with started(nats_process.url) as broker, stuck(broker, nats_process), asyncio.timeout(10):
        await broker.close()


@asynccontextmanager
async def stuck(broker: Broker, server: NatsProcess) -> AsyncIterator[None]:
    """The server stands still, and data for it waits in this process."""
    await broker.wait_connected()
    server.pause()
    async with meanwhile(*(unanswered(broker) for _ in range(CHUNKS))):
        await until_true(lambda: broker.client.pending_data_size)
        yield


async def unanswered(broker: Broker) -> None:
    """Send, and wait until it is cancelled."""
    with pytest.raises(BrokerUnavailableError):
        await broker.request("nobody.listens", CHUNK)
    await asyncio.Event().wait()
