"""What a process does with its connection to NATS, without a server."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.jetstream import Broker
from stint.jetstream.consuming.new_queues import NewQueues
from stint.jetstream.wire.protocol import NoAnswerError
from stint.jetstream.wire.requests import DeniedError
from tests.support.waiting import PATIENCE, meanwhile


async def test_what_is_done_while_there_is_a_connection_begins_anew_after_each_outage() -> None:
    broker, said = Broker("nats://127.0.0.1:1"), asyncio.Queue[str]()

    async def work() -> None:
        said.put_nowait("begun")
        try:
            await asyncio.Event().wait()
        finally:
            said.put_nowait("ended")

    async with asyncio.timeout(PATIENCE), meanwhile(broker.anew(work)):
        for _ in range(2):
            await asyncio.sleep(0.05)
            assert said.empty(), "there is no connection"
            broker.lost = asyncio.Event()
            broker.connected.set()
            assert await said.get() == "begun"
            broker.connected.clear()
            broker.lost.set()
            assert await said.get() == "ended"


NOWHERE = "nats://127.0.0.1:1"


class Generous(Broker):
    """Permits what it is asked for."""

    async def settled(self) -> None:
        """At once."""

    async def ask_permission(self, calls: Sequence[str]) -> Sequence[bool]:
        return [True] * len(calls)


async def test_a_hint_that_cannot_be_sent_is_no_refused_login() -> None:
    async def hint(_token: str) -> None:
        raise BrokerUnavailableError

    with capture_logs() as said:
        NewQueues(Generous(NOWHERE), hint).want(queue_token("net-1"))
        await next(task for task in asyncio.all_tasks() if task.get_name() == "new-queues")
    assert said == []


async def test_a_queue_whose_consumer_does_not_answer_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Broker] = []

    async def api(_broker: Broker, call: str) -> dict[str, Any]:
        match call:
            case "denied":
                raise DeniedError
            case "silent":
                raise NoAnswerError
        return {}

    async def replace(broker: Broker) -> None:
        replaced.append(broker)

    async def close(_broker: Broker) -> None:
        pass

    monkeypatch.setattr(Broker, "start", lambda broker: broker.connected.set())
    monkeypatch.setattr(Broker, "close", close)
    monkeypatch.setattr(Broker, "api", api)
    monkeypatch.setattr(Broker, "replace", replace)
    broker = Broker(NOWHERE)
    assert await broker.ask_permission(["there", "denied", "silent"]) == [True, False, True]
    assert replaced == [broker]
