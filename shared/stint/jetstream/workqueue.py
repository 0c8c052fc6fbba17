"""Pending jobs in the WORK stream: one durable pull consumer a queue, one delivery at a time."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NotJSMessageError

from stint.errors import LeaseLostError
from stint.jetstream.answers import check, error_code, status_of
from stint.jetstream.broker import Broker
from stint.jetstream.holdings import subjects_held
from stint.subjects import HINTS, WORK, consumer_name, event_filter, hint_subject, hinted_token

log = structlog.get_logger()

_NANOSECONDS: Final = 10**9
CONSUMER_EXISTS: Final = 10148
"""A consumer of this name is there, with other settings."""
INACTIVE_THRESHOLD: Final = 300
"""Seconds without a pull, renewal or pending ack after which the server forgets a queue's consumer."""
GONE: Final = frozenset({10014, 10059})
"""There is no such consumer, or no such stream."""
ANSWER_MARGIN: Final = 1.0
"""Seconds after a pull's own expiry in which the server must have said so."""

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"


class JetStreamDelivery:
    """See `stint.eventlog.Delivery`."""

    def __init__(self, broker: Broker, message: Msg, origin: str) -> None:
        self._broker = broker
        self._consumer = message.metadata.consumer
        self._number = message.metadata.sequence.consumer
        self.origin = origin
        self.subject = message.subject
        self.ack_subject = message.reply
        self.sequence = message.metadata.sequence.stream

    async def renew(self) -> None:
        await self._broker.request(self.ack_subject, IN_PROGRESS)

    async def ack(self) -> None:
        if not await self.is_last():
            raise LeaseLostError("The queue's last delivery is another one.")
        await self._broker.request(self.ack_subject, ACK)

    async def give_back(self, delay: float = 0) -> None:
        after = b" " + json.dumps({"delay": int(delay * _NANOSECONDS)}).encode() if delay else b""
        await self._broker.request(self.ack_subject, NAK + after)

    async def is_last(self, *, pending: bool = False) -> bool:
        """Whether nobody has received a message of this queue since, from this very consumer; and it is not acked."""
        answer = await self._broker.api(f"CONSUMER.INFO.{WORK}.{self._consumer}")
        if error_code(answer) in GONE:
            return False
        found = check(answer)
        last = found["created"] == self.origin and found["delivered"]["consumer_seq"] == self._number
        return last and (not pending or found["num_ack_pending"] > 0)


class _Pull(NamedTuple):
    inbox: str
    answer: asyncio.Future[Msg]


class JetStreamWorkQueues:
    """See `stint.eventlog.WorkQueues`. `start` must have been called once. One pull at a time a queue."""

    def __init__(self, broker: Broker, *, lease: float) -> None:
        """`lease` is what a consumer made here gives, in seconds; one that exists keeps its own."""
        self._broker = broker
        self._lease = lease
        self._leases: dict[str, float] = {}
        self._waiting: dict[str, _Pull] = {}
        self._pulled_at: dict[str, float] = {}
        self._numbers = itertools.count()
        self._inbox = broker.client.new_inbox()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen for deliveries. Needs a connection."""
        self._subscription = await self._broker.client.subscribe(f"{self._inbox}.*", cb=self._on_message)

    async def pull(self, token: str, wait: float) -> JetStreamDelivery | None:
        await self.lease(token)
        message = await self._next(token, wait)
        if message is not None and status_of(message) in {"409", "503"}:
            # The consumer is gone, with its server or for its inactivity: make it again.
            self._leases.pop(token, None)
            await self.lease(token)
            message = await self._next(token, wait)
        return await self._delivered(message) if message and not status_of(message) else None

    async def _delivered(self, message: Msg) -> JetStreamDelivery | None:
        """None if the consumer is another by now than the one that delivered this."""
        answer = await self._broker.api(f"CONSUMER.INFO.{WORK}.{message.metadata.consumer}")
        origin = "" if error_code(answer) in GONE else str(check(answer)["created"])
        delivery = JetStreamDelivery(self._broker, message, origin)
        last = origin and answer["delivered"]["consumer_seq"] == message.metadata.sequence.consumer
        return delivery if last else None

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> JetStreamDelivery | None:
        message = Msg(self._broker.client, subject=event_filter("submitted", token), reply=ack_subject)
        try:
            delivery = JetStreamDelivery(self._broker, message, origin)
        except (NotJSMessageError, ValueError, IndexError):
            return None
        if message.metadata.consumer != consumer_name(token) or not await delivery.is_last():
            return None
        await delivery.renew()
        # Asked again: a renewal is answered whoever has the message.
        return delivery if await delivery.is_last(pending=True) else None

    async def _next(self, token: str, wait: float) -> Msg | None:
        consumer = consumer_name(token)
        inbox = f"{self._inbox}.{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting[consumer] = _Pull(inbox, answer)
        self._pulled_at[consumer] = loop.time()
        # Without `expires` a pull on a busy queue would stay with the server for ever.
        request = {"batch": 1, "expires": int(wait * _NANOSECONDS)}
        subject = f"{self._broker.prefix}.CONSUMER.MSG.NEXT.{WORK}.{consumer}"
        try:
            await self._broker.send(subject, json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(wait + ANSWER_MARGIN):
                return await asyncio.shield(answer)
        except TimeoutError:
            return answer.result() if answer.done() else None
        except asyncio.CancelledError:
            if answer.done():
                await self._refuse(answer.result())
            raise
        finally:
            if self._waiting.get(consumer) == _Pull(inbox, answer):
                del self._waiting[consumer]

    async def _on_message(self, message: Msg) -> None:
        """A delivery keeps the subject it was published on, so it is known by its consumer; a status by its inbox."""
        if status_of(message):
            pull = next((pull for pull in self._waiting.values() if pull.inbox == message.subject), None)
        else:
            pull = self._waiting.get(message.metadata.consumer)
        if pull is not None and not pull.answer.done():
            pull.answer.set_result(message)
        else:
            await self._refuse(message)

    async def _refuse(self, message: Msg) -> None:
        """Nobody waits for this delivery any more: give it back at once, or it blocks its queue for a lease.

        Unless it has been lying here for so long that it may be somebody else's by now: the server would take the NAK
        all the same, and take the job away from its holder.
        """
        if status_of(message):
            return
        age = asyncio.get_running_loop().time() - self._pulled_at.get(message.metadata.consumer, 0.0)
        if age < self._lease / 2:
            await self._broker.send(message.reply, NAK)

    async def pending(self) -> Sequence[str]:
        held = subjects_held(self._broker, WORK, event_filter("submitted"))
        return sorted({subject.split(".")[2] async for subject in held})

    @asynccontextmanager
    async def hints(self) -> AsyncIterator[AsyncIterator[str]]:
        async with self._broker.subscribe(HINTS) as subscription:
            yield (hinted_token(message.subject) async for message in subscription.messages)

    async def hint(self, token: str) -> None:
        await self._broker.send(hint_subject(token))

    async def lease(self, token: str) -> float:
        if token not in self._leases:
            self._leases[token] = await self._make_consumer(token)
        return self._leases[token]

    async def _make_consumer(self, token: str) -> float:
        """Create the queue's consumer, or find it; returns its lease in seconds as the server has it."""
        name = consumer_name(token)
        config = {
            "durable_name": name,
            "name": name,
            "filter_subject": event_filter("submitted", token),
            "ack_policy": "explicit",
            "ack_wait": int(self._lease * _NANOSECONDS),
            "max_ack_pending": 1,
            "deliver_policy": "all",
            "inactive_threshold": INACTIVE_THRESHOLD * _NANOSECONDS,
        }
        # Only ever `create`: an update with a shorter ack_wait would cut leases that are being held.
        request = {"stream_name": WORK, "config": config, "action": "create"}
        answer = await self._broker.api(f"CONSUMER.CREATE.{WORK}.{name}", request)
        if error_code(answer) == CONSUMER_EXISTS:
            answer = await self._broker.api(f"CONSUMER.INFO.{WORK}.{name}")
        return float(check(answer)["config"]["ack_wait"]) / _NANOSECONDS
