"""Each port twice: in memory, and on a real NATS server."""

from typing import NamedTuple

import pytest

from stint.eventlog import EventLog, OutputLog, PayloadStore, ViewStore
from stint.events import AnyEvent
from stint.jetstream import (
    Broker,
    JetStreamEventLog,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
)
from stint.subjects import EventAddress
from stint.testing import MemoryEventLog, MemoryOutput, MemoryPayloads, MemoryViews


class Ports(NamedTuple):
    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    views: ViewStore
    broker: Broker | None

    async def put(self, address: EventAddress, body: bytes) -> None:
        """Store any bytes as a stranger could."""
        if self.broker is not None:
            await self.broker.publish(address.subject, body)
        else:
            assert isinstance(self.log, MemoryEventLog)
            self.log.put(address, body)

    async def must_append(self, token: str, job_id: str, *events: AnyEvent) -> None:
        for event in events:
            outcome = await self.log.append(token, job_id, event)
            assert outcome.value == "won"


@pytest.fixture(params=["memory", "jetstream"])
def ports(request: pytest.FixtureRequest) -> Ports:
    if request.param == "memory":
        return Ports(MemoryEventLog(), MemoryPayloads(), MemoryOutput(), MemoryViews(), None)
    broker = request.getfixturevalue("broker")
    return Ports(
        JetStreamEventLog(broker), JetStreamPayloads(broker), JetStreamOutput(broker), JetStreamViews(broker), broker
    )
