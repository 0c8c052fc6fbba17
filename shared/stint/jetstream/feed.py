"""EVENTS as a feed that remembers how far it was read: several readers share it, each event goes to one."""

import json
from collections.abc import AsyncIterator
from typing import Final

from nats.aio.msg import Msg

from stint.jetstream.answers import check, error_code, status_of
from stint.jetstream.broker import Broker, NoAnswerError, next_message
from stint.jetstream.workqueue import ACK, ANSWER_MARGIN, CONSUMER_EXISTS
from stint.subjects import EVENTS

_NANOSECONDS: Final = 10**9
BATCH: Final = 256
"""Events that one pull asks for, and that may be unacknowledged at a time."""
ACK_WAIT: Final = 30
"""Seconds after which an event that a reader did not acknowledge goes to another."""
PULL_WAIT: Final = 5.0
"""Seconds that one pull stays open; short, since a pull that is open across a server's restart stalls."""


class EventFeed:
    """The durable consumer `name` on EVENTS. Events come at least once, and nearly in order."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name

    async def declare(self) -> None:
        """Make the consumer, from the first event on, if there is none."""
        config = {
            "durable_name": self._name,
            "name": self._name,
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT * _NANOSECONDS,
            "max_ack_pending": BATCH,
            "deliver_policy": "all",
        }
        request = {"stream_name": EVENTS, "config": config, "action": "create"}
        answer = await self._broker.api(f"CONSUMER.CREATE.{EVENTS}.{self._name}", request)
        if error_code(answer) != CONSUMER_EXISTS:
            check(answer)

    async def pull(self, wait: float = PULL_WAIT) -> AsyncIterator[Msg]:
        """Events as they come, for about `wait` seconds. Acknowledge each with `ack`."""
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

    async def ack(self, message: Msg) -> None:
        """This event has been dealt with. If the ack is lost the event comes again."""
        await self._broker.send(message.reply, ACK)
