"""How a runner of a pool asks for queues that its login does not permit yet."""

import asyncio
from collections.abc import Sequence

from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.jetstream import Broker
from stint.jetstream.consuming.new_queues import NewQueues


class Generous(Broker):
    """Permits what it is asked for."""

    def __init__(self) -> None:
        super().__init__("nats://127.0.0.1:1")

    async def settled(self) -> None:
        """At once."""

    async def ask_permission(self, calls: Sequence[str]) -> Sequence[bool]:
        return [True] * len(calls)


async def test_a_hint_that_cannot_be_sent_is_no_refused_login() -> None:
    async def hint(_token: str) -> None:
        raise BrokerUnavailableError

    with capture_logs() as said:
        NewQueues(Generous(), hint).want(queue_token("net-1"))
        await next(task for task in asyncio.all_tasks() if task.get_name() == "new-queues")
    assert said == []
