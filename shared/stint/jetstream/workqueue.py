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
ANSWER_MARGIN: Final = 1.0
"""Seconds after a pull's own expiry in which the server must have said so."""

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"


class JetStreamDelivery:
    """See `stint.eventlog.Delivery`."""

    def __init__(self, broker: Broker, message: Msg) -> None:
        self._broker = broker
        self.subject = message.subject
        self.ack_subject = message.reply
        self.sequence = message.metadata.sequence.stream

    async def renew(self) -> None:
        await self._broker.request(self.ack_subject, IN_PROGRESS)

    async def ack(self) -> None:
        await self._broker.request(self.ack_subject, ACK)

    async def give_back(self) -> None:
        await self._broker.request(self.ack_subject, NAK)


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
        return JetStreamDelivery(self._broker, message) if message and not status_of(message) else None

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
