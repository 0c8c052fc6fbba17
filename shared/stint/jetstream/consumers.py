"""The durable consumers: one per queue on WORK, and the projectors' on EVENTS."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import structlog
from nats.aio.msg import Msg

from stint.core.subjects import EVENTS, WORK, consumer_name, event_filter, work_subject
from stint.jetstream.broker import Broker, NoAnswerError, next_message
from stint.jetstream.protocol import NANOSECONDS, ErrorCode, check, error_code, status_of

log = structlog.get_logger()

ANSWER_MARGIN: Final = 1.0
"""Seconds after a pull's expiry within which the server must have reported it."""
INACTIVE_THRESHOLD: Final = 300
"""Seconds without a pull, renewal or pending ack after which the server deletes a queue's consumer."""
DELETION_PAUSE: Final = (0.05, 0.1)
"""Minimum and maximum of the seconds before a consumer is created whose deletion may be in progress: a deletion that
is concurrent with a create of the same name removes the new consumer's directory."""

BATCH: Final = 256
"""Events per pull, and events that may be unacknowledged at a time."""
ACK_WAIT: Final = 5.0
"""Seconds after which an event without an ack or heartbeat is delivered to another reader."""
PULL_WAIT: Final = 2.0
"""Seconds that a pull stays open. A pull that is open during a server's restart stalls, and one of a frozen reader
receives events that nobody processes: together with `ACK_WAIT` this must stay well below 10 s."""


class ConsumerInfo(NamedTuple):
    """A consumer as the server describes it.

    Attributes:
        created: differs from that of a later consumer with the same name.
        lease: `ack_wait`, in seconds.
        consumer_sequence: number of its last delivery.
        stream_sequence: of that delivery's message.
        pending: whether a delivery is not acknowledged yet.
    """

    created: str
    lease: float
    consumer_sequence: int
    stream_sequence: int
    pending: bool


async def consumer_info(broker: Broker, name: str) -> ConsumerInfo | None:
    """The consumer with this name, None if there is none."""
    answer = await broker.api(f"CONSUMER.INFO.{WORK}.{name}")
    if error_code(answer) in {ErrorCode.CONSUMER_NOT_FOUND, ErrorCode.STREAM_NOT_FOUND}:
        return None
    found = check(answer)
    return ConsumerInfo(
        created=found["created"],
        lease=float(found["config"]["ack_wait"]) / NANOSECONDS,
        consumer_sequence=found["delivered"]["consumer_seq"],
        stream_sequence=found["delivered"]["stream_seq"],
        pending=found["num_ack_pending"] > 0,
    )


async def make_consumer(broker: Broker, token: str, lease: float, *, deleted: bool = False) -> None:
    """Create a queue's consumer with this lease; an existing one is not changed.

    Args:
        broker: the connection.
        token: the queue's token.
        lease: in seconds. An existing consumer keeps its own: a shorter one would cut current leases.
        deleted: whether one with this name existed a moment ago.

    Raises:
        BrokerRefusedError: the server refuses to create it, and there is none.
    """
    if deleted:
        await asyncio.sleep(random.uniform(*DELETION_PAUSE))  # noqa: S311 - jitter. The server does not say when it is done
    name = consumer_name(token)
    config = _config(name, lease) | {
        "filter_subject": work_subject(token),
        "max_ack_pending": 1,
        "inactive_threshold": INACTIVE_THRESHOLD * NANOSECONDS,
    }
    answer = await _write(broker, WORK, config, "create")  # never an update, see `lease`
    if error_code(answer) == ErrorCode.CONSUMER_EXISTS:
        return
    if error_code(answer) == ErrorCode.CREATE_FAILED and await consumer_info(broker, name):
        log.warning("consumer has lost its directory but still works", consumer=name)
        return
    check(answer)


def _config(name: str, ack_wait: float) -> dict[str, Any]:
    return {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * NANOSECONDS),
        "deliver_policy": "all",
    }


async def _write(broker: Broker, stream: str, config: dict[str, Any], action: str) -> dict[str, Any]:
    request = {"stream_name": stream, "config": config, "action": action}
    return await broker.api(f"CONSUMER.CREATE.{stream}.{config['name']}", request)


async def request_messages(broker: Broker, stream: str, consumer: str, *, batch: int, wait: float, inbox: str) -> None:
    """Ask a consumer for messages, which arrive at `inbox`. Without `expires` the server would keep it for ever."""
    request = {"batch": batch, "expires": int(wait * NANOSECONDS)}
    await broker.send(
        f"{broker.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(request).encode(), reply=inbox
    )


class EventFeed:
    """The durable consumer `name` on EVENTS. Each event is delivered at least once, and nearly in order.

    It remembers its position. Several readers can share it; each event goes to one of them.
    """

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
        config = _config(self._name, self.ack_wait) | {"filter_subject": event_filter(), "max_ack_pending": BATCH}
        found = await self._broker.api(f"CONSUMER.INFO.{EVENTS}.{self._name}")
        if config.items() <= found.get("config", {}).items():
            return
        answer = await _write(self._broker, EVENTS, config, "create")
        if error_code(answer) != ErrorCode.CONSUMER_EXISTS:
            check(answer)
            return
        if code := error_code(await _write(self._broker, EVENTS, config, "update")):
            log.warning("consumer has other settings", stream=EVENTS, consumer=self._name, error=code)

    async def pull(self, wait: float = PULL_WAIT) -> AsyncIterator[Msg]:
        """Events as they arrive, for about `wait` seconds. Each needs `heartbeat`s until its `ack`."""
        inbox = self._broker.client.new_inbox()
        async with self._broker.subscribe(inbox) as subscription:
            await request_messages(self._broker, EVENTS, self._name, batch=BATCH, wait=wait, inbox=inbox)
            for _ in range(BATCH):
                try:
                    message = await next_message(subscription, wait + ANSWER_MARGIN)
                except NoAnswerError:
                    return
                if status_of(message):
                    return
                yield message

    async def heartbeat(self, message: Msg) -> None:
        """The event is still being processed: do not deliver it again for another `ack_wait`."""
        await self._broker.send(message.reply, Msg.Ack.Progress)

    async def ack(self, message: Msg) -> None:
        """Acknowledge an event that has been processed. If the ack is lost, the event is delivered again."""
        await self._broker.send(message.reply, Msg.Ack.Ack)
