"""One delivery of a queue's consumer: how it is renewed, acknowledged and given back."""

import json
from typing import Final

from nats.aio.msg import Msg

from stint.core.errors import ConsumerGoneError, LeaseLostError
from stint.core.names.streams import WORK
from stint.core.names.subjects import hint_subject
from stint.core.view import parse_time
from stint.jetstream.consuming.consumers import ConsumerInfo, consumer_info
from stint.jetstream.removals import Remover
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker, NoRespondersError
from stint.jetstream.wire.protocol import NANOSECONDS, origin_of
from stint.ports import Look, Turn

RETURNED: Final = "!"  # the mark in the body of a hint whose queue's next job was given back


class JetStreamDelivery:
    """See `stint.ports.Delivery`."""

    def __init__(
        self,
        broker: Broker,
        remover: Remover,
        token: str,
        message: Msg,
        *,
        origin: str,
        lease: float,
        young: bool = False,
    ) -> None:
        """Raises `NotJSMessageError` or `ValueError` if the message has no ack subject."""
        self._broker = broker
        self._remover = remover
        self.token = token
        self._consumer = message.metadata.consumer
        self._number = message.metadata.sequence.consumer
        self.stored = message.metadata.timestamp  # when WORK stored the job
        self.origin = origin
        self.lease = lease
        self.subject = origin_of(message).subject
        self.ack_subject = message.reply
        self.sequence = message.metadata.sequence.stream
        self.count = message.metadata.num_delivered  # how often this consumer has delivered it, from 1
        self.after_expiry = self.count > 1 and not young
        self.left: Look | None = None

    async def renew(self) -> None:
        try:
            # On a slow link the answer waits behind payloads and output; until the fence it still counts.
            wait = max(self._broker.timeout, self.lease / 2)
            await self._broker.request(self.ack_subject, Msg.Ack.Progress, wait=wait)
        except NoRespondersError:
            raise ConsumerGoneError from None

    async def ack(self) -> None:
        found = await consumer_info(self._broker, self._consumer)
        if found is None or not await self._is_delivered_by(found):
            raise LeaseLostError("The queue has no delivery of this job any more.")
        await self._broker.request(self.ack_subject, Msg.Ack.Ack)
        self.left = Look(Turn.FREE, found) if found.waiting else None
        await self._remover.remove(self.token, self.sequence)

    async def give_back(self, delay: float = 0, *, hint: bool = True) -> None:
        found = await consumer_info(self._broker, self._consumer)
        if found is None or not self.is_last_of(found):
            raise LeaseLostError("A later delivery of the queue has replaced this one.")
        after = b" " + json.dumps({"delay": int(delay * NANOSECONDS)}).encode() if delay else b""
        await self._broker.request(self.ack_subject, Msg.Ack.Nak + after)
        if hint and not delay:
            await self._broker.send(hint_subject(self.token), RETURNED.encode())

    async def is_left_to_holder(self) -> bool:
        """Whether the queue's consumer leaves the job to whoever has this delivery.

        It does if this is its last delivery. So does another consumer that has delivered the job, or has not come to it
        yet: whoever receives it leaves it to its holder for a lease (`stint_runner.job.takeover`).
        """
        found = await consumer_info(self._broker, self._consumer)
        if found is None:
            return False
        if found.stream_sequence < self.sequence:
            return found.waiting > 0 and await self._is_stored()
        if found.created == self.origin:
            return found.pending and self.is_last_of(found)
        return found.pending and await self._is_delivered_by(found)

    def is_again(self, earlier: "JetStreamDelivery") -> bool:
        """Whether both are deliveries of one message. A stream that was made anew has another time for its number."""
        return (self.sequence, self.stored) == (earlier.sequence, earlier.stored)

    async def _is_delivered_by(self, found: ConsumerInfo) -> bool:
        """Whether the last delivery of the consumer that was found is of this job, whoever received it."""
        if found.stream_sequence != self.sequence:
            return False
        return found.created == self.origin or await self._is_stored()

    async def _is_stored(self) -> bool:
        """Whether WORK is the stream that stored the job. One that was made anew counts from 1 again."""
        work = await Stream(self._broker, WORK).state()
        return parse_time(work.created) <= self.stored

    def is_next_of(self, found: ConsumerInfo) -> bool:
        """Whether this is the delivery that follows what was found, so that another look would only find it."""
        return self._number == found.consumer_sequence + 1

    def is_last_of(self, found: ConsumerInfo) -> bool:
        """Whether this is the last delivery of the consumer that was found."""
        last = (found.created, found.consumer_sequence, found.stream_sequence)
        return last == (self.origin, self._number, self.sequence)
