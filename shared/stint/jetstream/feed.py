"""EVENTS as a feed that remembers its position. Several readers can share it; each event goes to one of them."""

import json
from collections.abc import AsyncIterator
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.subjects import EVENTS
from stint.jetstream.answers import check, error_code, status_of
from stint.jetstream.broker import Broker, NoAnswerError, next_message
from stint.jetstream.consumers import CONSUMER_EXISTS
from stint.jetstream.work_queues import ACK, ANSWER_MARGIN, IN_PROGRESS

log = structlog.get_logger()

_NANOSECONDS: Final = 10**9
BATCH: Final = 256
"""Events per pull, and events that may be unacknowledged at a time."""
ACK_WAIT: Final = 5.0
"""Seconds after which an event without an ack or heartbeat is delivered to another reader."""
PULL_WAIT: Final = 2.0
"""Seconds that a pull stays open. A pull that is open during a server's restart stalls, and one of a frozen reader
receives events that nobody processes: together with `ACK_WAIT` this must stay well below 10 s."""


class EventFeed:
    """The durable consumer `name` on EVENTS. Each event is delivered at least once, and nearly in order."""

    def __init__(self, broker: Broker, name: str, *, ack_wait: float = ACK_WAIT) -> None:
        """`ack_wait` is in seconds; the last one to declare the consumer sets it."""
        self._broker = broker
        self._name = name
        self.ack_wait = ack_wait

    async def declare(self) -> None:
        """Create the consumer, starting at the first event, or update one with other settings.

        A consumer that has the right settings is not touched. If a server created it while still removing the files of
        an older one with the same name, it refuses to write it again, although the consumer works.
        """
        config = {
            "durable_name": self._name,
            "name": self._name,
            "ack_policy": "explicit",
            "ack_wait": int(self.ack_wait * _NANOSECONDS),
            "max_ack_pending": BATCH,
            "deliver_policy": "all",
        }
        found = await self._broker.api(f"CONSUMER.INFO.{EVENTS}.{self._name}")
        if config.items() <= found.get("config", {}).items():
            return
        subject, request = f"CONSUMER.CREATE.{EVENTS}.{self._name}", {"stream_name": EVENTS, "config": config}
        answer = await self._broker.api(subject, {**request, "action": "create"})
        if error_code(answer) != CONSUMER_EXISTS:
            check(answer)
            return
        answer = await self._broker.api(subject, {**request, "action": "update"})
        if code := error_code(answer):
            log.warning("consumer has other settings", stream=EVENTS, consumer=self._name, error=code)

    async def pull(self, wait: float = PULL_WAIT) -> AsyncIterator[Msg]:
        """Events as they arrive, for about `wait` seconds. Acknowledge each with `ack`, and call `keep` until then."""
        subject = f"{self._broker.prefix}.CONSUMER.MSG.NEXT.{EVENTS}.{self._name}"
        request = {"batch": BATCH, "expires": int(wait * _NANOSECONDS)}
        async with self._broker.subscribe(self._broker.client.new_inbox) as subscription:
            await self._broker.send(subject, json.dumps(request).encode(), reply=subscription.subject)
            for _ in range(BATCH):
                try:
                    message = await next_message(subscription, wait + ANSWER_MARGIN)
                except NoAnswerError:
                    return
                if status_of(message):
                    return
                yield message

    async def keep(self, message: Msg) -> None:
        """Heartbeat: the event is still being processed, and is not delivered again for another `ack_wait`."""
        await self._broker.send(message.reply, IN_PROGRESS)

    async def ack(self, message: Msg) -> None:
        """Acknowledge an event that has been processed. If the ack is lost, the event is delivered again."""
        await self._broker.send(message.reply, ACK)
