"""Each port twice: in memory, and on a real NATS server."""

from typing import NamedTuple

import pytest

from stint.core.events import AnyEvent
from stint.core.job import Job
from stint.core.names.streams import WORK
from stint.core.names.subjects import EventAddress
from stint.jetstream import (
    Broker,
    JetStreamEventLog,
    JetStreamHistory,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamPhases,
    JetStreamViews,
)
from stint.jetstream.streams.stream import Stream
from stint.ports import EventLog, History, OutputLog, PayloadStore, PhaseChannel, ViewStore
from stint.testing import (
    MemoryEventLog,
    MemoryHistory,
    MemoryOutput,
    MemoryPayloads,
    MemoryPhases,
    MemoryViews,
)
from tests.support.brokers import loaded, work_queues
from tests.support.events import TOKEN, submitted
from tests.support.waiting import until

JOB = "0123456789abcdef01234567"
OTHER = "f" * 24


class Ports(NamedTuple):
    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    views: ViewStore
    history: History
    phases: PhaseChannel
    broker: Broker | None

    async def put(self, address: EventAddress, body: bytes) -> None:
        """Store any bytes as a stranger could."""
        if self.broker is not None:
            await self.broker.publish(address.subject, body)
        else:
            assert isinstance(self.log, MemoryEventLog)
            self.log.put(address, body)

    async def begun(self, *events: AnyEvent) -> Job:
        """The job after its submission and these."""
        await self.must_append(TOKEN, JOB, submitted(), *events)
        return await self.job(JOB)

    async def take_from_work(self, token: str, job_id: str) -> None:
        """As a runner does when it has seen to a job. Returns once it is removed."""
        if self.broker is not None:
            delivery = await (await work_queues(self.broker)).pull(token, 10)
            assert delivery is not None
            assert f".{job_id}." in delivery.subject
            await delivery.ack()
            work = Stream(self.broker, WORK)
            await until(lambda: work.get({"seq": delivery.sequence}), lambda message: message is None)
        else:
            assert isinstance(self.history, MemoryHistory)
            self.history.taken.add(job_id)

    async def job(self, job_id: str) -> Job:
        return await loaded(self.log, job_id)

    async def must_append(self, token: str, job_id: str, *events: AnyEvent) -> None:
        for event in events:
            outcome = await self.log.append(token, job_id, event)
            assert outcome.value == "won"


@pytest.fixture(params=["memory", "jetstream"])
def ports(request: pytest.FixtureRequest) -> Ports:
    if request.param == "memory":
        log, payloads = MemoryEventLog(), MemoryPayloads()
        history = MemoryHistory(log, payloads)
        return Ports(log, payloads, MemoryOutput(), MemoryViews(), history, MemoryPhases(), None)
    broker = request.getfixturevalue("broker")
    return Ports(
        JetStreamEventLog(broker),
        JetStreamPayloads(broker),
        JetStreamOutput(broker),
        JetStreamViews(broker),
        JetStreamHistory(broker),
        JetStreamPhases(broker),
        broker,
    )
