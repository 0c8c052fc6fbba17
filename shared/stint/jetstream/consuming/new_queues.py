"""Queues that this login does not permit yet: of a pool whose queues are a pattern, whose logins name queues."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import chain, compress, islice
from typing import Final
from weakref import WeakSet

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.names.ids import queue_name
from stint.core.names.streams import WORK, consumer_name
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.jetstream.wire.broker import Broker

log = structlog.get_logger()

AT_ONCE: Final = 50  # new queues for which one login asks
ASKED: Final = 100  # queues that a login names. It does so in its first line, which has at most 4096 bytes
RETRY: Final = 5.0  # seconds until the next try after one that was in vain


class NewQueues:
    """Logs in again for such queues, in the background: no slot of the runner waits for that."""

    def __init__(self, broker: Broker, hint: Callable[[str], Awaitable[None]]) -> None:
        """`hint` tells runners that a queue has work, once it is permitted."""
        self.deliveries: WeakSet[JetStreamDelivery] = WeakSet()  # this runner's, whose queues each login must permit
        self._broker = broker
        broker.asks = self._asks
        self._hint = hint
        self._wanted: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._refused: list[str] = []

    def want(self, token: str) -> None:
        self._wanted[token] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._log_in(), name="new-queues")

    async def _log_in(self) -> None:
        while self._wanted:
            await self._broker.settled()
            tokens = [*self._wanted][:AT_ONCE]
            permitted = await self._ask(tokens)
            with suppress(BrokerUnavailableError):  # the runner itself looks for queues with work from time to time
                for token in permitted:
                    await self._hint(token)
            if not permitted:
                await asyncio.sleep(RETRY)
            for token in tokens:
                del self._wanted[token]

    async def _ask(self, tokens: Sequence[str]) -> Sequence[str]:
        """Those of these queues that are permitted now."""
        calls = [f"CONSUMER.INFO.{WORK}.{consumer_name(token)}" for token in tokens]
        try:
            answers = await self._broker.ask_permission(calls)
        except StintError as error:
            log.warning("NATS does not let this runner in for new queues", error=error.sentence)
            return []
        refused = sorted(queue_name(token) for token, may in zip(tokens, answers, strict=True) if not may)
        if refused and refused != self._refused:
            log.warning("NATS does not permit this runner some of its queues", queues=refused)
        self._refused = refused
        return list(compress(tokens, answers))

    def _asks(self) -> str:
        own = dict.fromkeys(delivery.token for delivery in self.deliveries)
        return " ".join(consumer_name(token) for token in islice(chain(own, self._wanted), ASKED))
