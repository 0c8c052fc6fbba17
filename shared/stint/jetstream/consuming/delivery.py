"""One delivery of a queue's consumer: how it is renewed, acknowledged and given back."""

import json
from typing import Final

from nats.aio.msg import Msg

from stint.core.errors import ConsumerGoneError, LeaseLostError
from stint.core.names.subjects import hint_subject
from stint.jetstream.consuming.consumers import ConsumerInfo, consumer_info
from stint.jetstream.removals import Remover
from stint.jetstream.wire.broker import Broker, NoRespondersError
from stint.jetstream.wire.protocol import NANOSECONDS, origin_of
from stint.ports import Look, Turn

RETURNED: Final = "!"
"""The mark in the body of a hint whose queue's next job was given back."""


class JetStreamDelivery:
    """See `stint.ports.Delivery`."""

    def __init__(
        self, broker: Broker, remover: Remover, token: str, message: Msg, *, origin: str, lease: float
    ) -> None:
        """Raises `NotJSMessageError`, `ValueError` or `IndexError` if the message has no ack subject."""
        self._broker = broker
        self._remover = remover
        self.token = token
        self._consumer = message.metadata.consumer
        self._number = message.metadata.sequence.consumer
        self.origin = origin
        self.lease = lease
        self.subject = origin_of(message).subject
        self.ack_subject = message.reply
        self.sequence = message.metadata.sequence.stream
        self.count = message.metadata.num_delivered
        self.left: Look | None = None

    async def renew(self) -> None:
        try:
            await self._broker.request(self.ack_subject, Msg.Ack.Progress)
        except NoRespondersError:
            raise ConsumerGoneError from None

    async def ack(self) -> None:
        found = await self._answer(Msg.Ack.Ack)
        self.left = Look(Turn.FREE, found) if found.waiting else None
        await self._remover.remove(self.token, self.sequence)

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        after = b" " + json.dumps({"delay": int(delay * NANOSECONDS)}).encode() if delay else b""
        await self._answer(Msg.Ack.Nak + after)
        if hint and not delay:
            await self._broker.send(hint_subject(self.token), RETURNED.encode())

    async def _answer(self, answer: bytes) -> ConsumerInfo:
        """Answer the delivery; returns what its consumer was like right before."""
        found = await consumer_info(self._broker, self._consumer)
        if found is None or not self.is_last_of(found):
            raise LeaseLostError("A later delivery of the queue has replaced this one.")
        await self._broker.request(self.ack_subject, answer)
        return found

    async def is_last(self, *, pending: bool = False) -> bool:
        """Whether this is still the last delivery of this very consumer; with `pending`, also not acknowledged."""
        found = await consumer_info(self._broker, self._consumer)
        return found is not None and self.is_last_of(found) and (found.pending or not pending)

    def is_next_of(self, found: ConsumerInfo) -> bool:
        """Whether this is the delivery that follows what was found, so that another look would only find it."""
        return self._number == found.consumer_sequence + 1

    def is_last_of(self, found: ConsumerInfo) -> bool:
        """Whether this is the last delivery of the consumer that was found."""
        last = (found.created, found.consumer_sequence, found.stream_sequence)
        return last == (self.origin, self._number, self.sequence)
