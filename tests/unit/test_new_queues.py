"""How a runner of a pool asks for queues that its login does not permit yet."""

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
