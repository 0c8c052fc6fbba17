"""Pulls: how a consumer is asked for messages, and where they arrive."""

import asyncio
import json
from typing import Final

from nats.aio.msg import Msg

from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, status_of
from stint.process.waiting import any_of

EXPIRED: Final = "408"  # the status that ends a pull whose time is over
ANSWER_MARGIN: Final = 1.0  # seconds after a pull's expiry within which the server must have reported it


async def request_messages(
    broker: Broker, stream: str, consumer: str, *, batch: int, wait: float, inbox: str, **options: str
) -> str:
    """Ask a consumer for messages, which arrive at `inbox`. Returns the request's subject. `options` are NATS' own."""
    # Without `expires` the server would keep the request for ever.
    request = {"batch": batch, "expires": int(wait * NANOSECONDS), **options}
    subject = f"{broker.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    await broker.send(subject, json.dumps(request).encode(), reply=inbox)
    return subject


class Inbox:
    """What has arrived of one pull after the other, and has not been taken yet."""

    def __init__(self, batch: int, lost: asyncio.Event, held: set[str] | None = None) -> None:
        """A pull asks for `batch` messages; `lost` is set when the connection is lost; `held` gets the ack subjects."""
        self.complete = asyncio.Event()  # set when the current pull will bring nothing more
        self._some = asyncio.Event()
        self._batch, self._lost, self._held = batch, lost, held
        self._messages: list[Msg] = []
        self._status = ""
        self._received = 0

    async def receive(self, message: Msg) -> None:
        if status := status_of(message):
            self._status = status
        else:
            self._messages.append(message)
            self._received += 1
            if self._held is not None:
                self._held.add(message.reply)
        self._some.set()
        if status or self._received == self._batch:
            self.complete.set()

    async def fills(self, within: float) -> bool:
        """Whether something arrives within so many seconds, and before the connection is lost."""
        if not self._some.is_set():
            await any_of(self._some, self._lost, within=within)
        return self._some.is_set()

    def take(self) -> tuple[list[Msg], bool, str]:
        """The messages that have arrived, whether the pull is over, and its status if it has one."""
        taken = self._messages, self.complete.is_set(), self._status
        self._messages, self._status = [], ""
        if self.complete.is_set():
            self._received = 0
        self._some.clear()
        self.complete.clear()
        return taken
