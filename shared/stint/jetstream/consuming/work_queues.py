"""Pending jobs in the WORK stream: one durable pull consumer per queue, one delivery at a time."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import NotJSMessageError

from stint.core.errors import StintError
from stint.core.names.ids import queue_token
from stint.core.names.patterns import ALL_QUEUES, QueuePatterns
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import HINTS, hint_group, hint_subject, token_of, work_subject
from stint.jetstream.consuming.consumers import ConsumerInfo, consumer_info, pending_jobs
from stint.jetstream.consuming.delivery import RETURNED, JetStreamDelivery
from stint.jetstream.consuming.making import ConsumerMaker
from stint.jetstream.consuming.new_queues import NewQueues
from stint.jetstream.removals import Remover
from stint.jetstream.streams.bucket import OPERATION
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NoAnswerError, status_of
from stint.jetstream.wire.pulls import ANSWER_MARGIN, request_messages
from stint.jetstream.wire.requests import DeniedError
from stint.ports import Hint, Look, Turn

log = structlog.get_logger()

PULLS: Final = 3  # pulls in a row: from a consumer that is being deleted, without one, and from a new one
RECLAIM_WAIT: Final = 0.1  # seconds that a reclaim waits for a delivery by a new consumer
LOOK_WAIT: Final = 1.0  # seconds for a look at a queue: a consumer without a leader does not answer

_PASSED: Final = "+"
"""A mark in a hint's body for each runner that passed it on; see also `RETURNED`. `WORK`'s own hints, and those of
pauses, have no body."""


class JetStreamWorkQueues:
    """See `stint.ports.WorkQueues`. Call `start` once before use. There is one pull at a time per queue."""

    def __init__(self, broker: Broker, *, lease: float, served: QueuePatterns = ALL_QUEUES, replicas: int = 1) -> None:
        """`served` are the queues that are shown here; `lease` is that of consumers created here, in seconds.

        On several `replicas` consumers are kept in files, which outlive a restart of all servers.
        """
        self._broker = broker
        self._lease, self._served = lease, served
        confined = served != ALL_QUEUES
        self._maker = ConsumerMaker(broker, confined=confined, in_memory=replicas == 1)
        self._delivery = partial(JetStreamDelivery, broker, Remover(broker, confined=confined))
        self._new_queues = NewQueues(broker, self.hint)
        self._group = hint_group(served.patterns)
        self._waiting: dict[str, asyncio.Future[Msg]] = {}  # for the answer to a pull, by its consumer and by its inbox
        self._pulled_at: dict[str, float] = {}
        self._given_back: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._inbox = broker.client.new_inbox()

    async def start(self) -> None:
        """Listen for deliveries. Needs a connection."""
        await self._broker.client.subscribe(f"{self._inbox}.*", cb=self._on_message)

    async def look(self, token: str) -> Look:
        try:
            found = await consumer_info(self._broker, consumer_name(token), LOOK_WAIT)
        except DeniedError:
            self._new_queues.want(token)
            return Look(Turn.DENIED)
        if found is None or found.expired:
            return Look(Turn.FREE, found)
        return Look(Turn.HELD if found.pending else Turn.FREE if found.waiting else Turn.EMPTY, found)

    async def pull(self, token: str, wait: float, look: Look | None = None) -> JetStreamDelivery | None:
        found = look.consumer if look else None
        if look and not found:
            found = await self._maker.make(token, self._lease)
        for _ in range(PULLS):
            message = await self._next(token, wait)
            if message is None:
                return None
            match status_of(message):
                case "":
                    if delivery := await self._delivered(token, message, found):
                        self._new_queues.deliveries.add(delivery)
                        return delivery
                    found = None
                case "409" | "503":  # the consumer was deleted meanwhile, or there is none
                    found = await self._maker.make(token, self._lease)
                case _:
                    return None
        return None

    async def _delivered(self, token: str, message: Msg, before: object = None) -> JetStreamDelivery | None:
        """The delivery, with the consumer's lease. None if it is not its consumer's last one.

        A consumer that is being deleted can still deliver; the next one with its name delivers the message again.

        `before` is the consumer as it was before the pull. It is not asked again if this delivery is its next one.
        """
        if isinstance(before, ConsumerInfo):
            delivery = self._delivery(token, message, origin=before.created, lease=before.lease, young=before.young)
            if delivery.is_next_of(before):
                return delivery
        pulled_at = self._last_pull(message)
        try:
            found = await consumer_info(self._broker, message.metadata.consumer)
        except BaseException:
            # It will not be processed here, and its queue must not wait for the end of the lease.
            await self._give_back(token, message, pulled_at, self._lease)
            raise
        if found is None:
            return None
        delivery = self._delivery(token, message, origin=found.created, lease=found.lease, young=found.young)
        return delivery if delivery.is_last_of(found) else None

    async def reclaim(self, token: str, ack_subject: str, origin: str) -> JetStreamDelivery | None:
        message = Msg(self._broker.client, subject=work_subject(token), reply=ack_subject)
        try:
            if message.metadata.consumer != consumer_name(token):
                return None
            found = await consumer_info(self._broker, consumer_name(token))
            delivery = self._delivery(token, message, origin=origin, lease=found.lease if found else self._lease)
        except (NotJSMessageError, ValueError):
            return None
        except DeniedError:
            self._new_queues.want(token)
            raise
        if found is None and (pulled := await self.pull(token, RECLAIM_WAIT, Look(Turn.FREE))):
            if pulled.is_again(delivery):
                return pulled
            await pulled.give_back()  # one before it, which was acknowledged and not removed yet
        if not await delivery.is_left_to_holder():
            return None
        self._new_queues.deliveries.add(delivery)
        await delivery.renew()
        # Check again: a renewal is answered even if another runner has the message.
        return delivery if await delivery.is_left_to_holder() else None

    async def _next(self, token: str, wait: float) -> Msg | None:
        consumer, inbox = consumer_name(token), f"{self._inbox}.{next(self._numbers)}"
        answer = self._waiting[consumer] = self._waiting[inbox] = asyncio.get_running_loop().create_future()
        self._note_pull(consumer)
        try:
            subject = await request_messages(self._broker, WORK, consumer, batch=1, wait=wait, inbox=inbox)
            with suppress(TimeoutError, NoAnswerError, DeniedError):
                async with asyncio.timeout(wait + ANSWER_MARGIN):
                    await self._broker.answer(subject, asyncio.shield(answer))
            return answer.result() if answer.done() else None
        except asyncio.CancelledError:
            if answer.done():
                self._give_back_later(answer.result())
            raise
        finally:
            del self._waiting[inbox]
            if self._waiting.get(consumer) is answer:
                del self._waiting[consumer]

    def _note_pull(self, consumer: str) -> None:
        """Remember when a queue was pulled last, for as long as a late delivery may be given back."""
        now = asyncio.get_running_loop().time()
        self._pulled_at.pop(consumer, None)
        self._pulled_at[consumer] = now
        while self._pulled_at[oldest := next(iter(self._pulled_at))] < now - self._lease / 2:
            del self._pulled_at[oldest]

    async def _on_message(self, message: Msg) -> None:
        """A delivery has the subject it was published on, so its consumer identifies it; a status has its inbox."""
        answer = self._waiting.get(message.subject if status_of(message) else message.metadata.consumer)
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self._give_back_later(message)

    def _give_back_later(self, message: Msg) -> None:
        """Give back a delivery that nobody waits for any more; otherwise it would block its queue for a lease."""
        if not status_of(message):
            token = token_of(message.subject)
            task = asyncio.create_task(self._give_back_if_last(token, message, self._last_pull(message)))
            self._given_back.add(task)
            task.add_done_callback(self._given_back.discard)

    async def _give_back_if_last(self, token: str, message: Msg, pulled_at: float) -> None:
        try:
            if delivery := await self._delivered(token, message):
                await self._give_back(token, message, pulled_at, delivery.lease)
        except StintError as error:
            log.warning("delivery could not be given back, its lease will expire", error=error.sentence)

    async def _give_back(self, token: str, message: Msg, pulled_at: float, lease: float) -> None:
        """Give a delivery back, unless it was pulled so long ago that another runner may have the job by now.

        The server would accept that nak too, and take the job away from the other runner.
        """
        if asyncio.get_running_loop().time() - pulled_at < lease / 2 and self._broker.client.is_connected:
            await self._broker.send(message.reply, Msg.Ack.Nak)
            await self.hint(token, returned=True)

    def _last_pull(self, message: Msg) -> float:
        return self._pulled_at.get(message.metadata.consumer, -math.inf)

    async def pending(self) -> Mapping[str, int]:
        return await pending_jobs(self._broker, self._served)

    @asynccontextmanager
    async def hints(self) -> AsyncIterator[AsyncIterator[Hint]]:
        heard: asyncio.Queue[Msg] = asyncio.Queue(maxsize=1)
        names = self._served.names  # of single queues if all are known: the user of a pool may hear no others
        subjects = [HINTS] if names is None else [hint_subject(queue_token(qname)) for qname in names]
        async with AsyncExitStack() as subscriptions:
            for subject in subjects:
                await subscriptions.enter_async_context(
                    self._broker.subscribe(subject, queue=self._group, cb=heard.put)
                )
            yield self._hints(heard)

    async def _hints(self, heard: "asyncio.Queue[Msg]") -> AsyncIterator[Hint]:
        while True:
            hint = self._hint(await heard.get())
            if hint and self._served.serves_token(hint.token):
                yield hint

    def _hint(self, message: Msg) -> Hint | None:
        """The hint, None if a runner of another group has passed it on to others of that group."""
        marks, sender, group = (*message.data.decode(errors="replace").split(" "), "", "", "")[:3]
        if _PASSED in marks and group != self._group:
            return None
        # The end of a pause: whoever found the queue paused has given its next job back.
        resumed = OPERATION in (message.headers or {})
        returned, ours = RETURNED in marks or resumed, sender == self._inbox
        return Hint(token_of(message.subject), marks.count(_PASSED), returned=returned, ours=ours)

    async def hint(self, token: str, *, passed: int = 0, returned: bool = False) -> None:
        marks = _PASSED * passed + RETURNED * returned
        await self._broker.send(hint_subject(token), f"{marks} {self._inbox} {self._group}".encode())
