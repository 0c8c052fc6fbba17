"""The projectors' feed: a durable consumer on EVENTS, of which one reader at a time receives everything."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import structlog
from nats.aio.msg import Msg

from stint.core.names.headers import PIN
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import event_filter
from stint.core.view import parse_time
from stint.jetstream.consuming.consumers import consumer_config, write_consumer
from stint.jetstream.streams.bucket import MARKER_TTL
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, check, error_code, position_of
from stint.jetstream.wire.pulls import ANSWER_MARGIN, EXPIRED, Inbox, request_messages
from stint.process.waiting import any_of

log = structlog.get_logger()

BATCH: Final = 500
"""Events per pull. The largest have 32 MiB together: NATS closes a connection for which more than 64 MiB wait."""
MAX_PENDING: Final = 4 * BATCH  # events without an ack at a time: being projected, waiting, and with a dead reader
ACK_WAIT: Final = 5.0  # seconds after which an event without an ack or heartbeat is delivered to another reader
PULL_WAIT: Final = 2.0
"""Seconds that a pull stays open. A pull that is open during a server's restart stalls, and one of a frozen reader
receives events that nobody processes: together with `ACK_WAIT` this must stay well below 10 s."""
TURN: Final = 4.0  # seconds after the last pull of the reader whose turn it is until another one may have its turn
LINGER: Final = 0.03  # seconds for which further events are awaited after one has come: they cost less together
RECENT: Final = MARKER_TTL / 2  # seconds after a pull within which no view of its jobs can have gone without a trace

_GROUP: Final = "projectors"


class Delivered(NamedTuple):
    """A delivered event."""

    subject: str  # on which it was published, by whomever
    data: bytes
    sequence: int  # in EVENTS
    time: str  # when EVENTS stored it, RFC 3339
    number: int  # of the delivery, counted by the consumer over all readers. Without a gap there was no other reader
    deliveries: int  # how often the consumer has delivered the event
    # Whether nobody else can have received it from the feed, so that any view of it would still leave a trace.
    first: bool
    ack_subject: str  # for heartbeats and the ack


class EventFeed:
    """The durable consumer `name` on EVENTS. Each event is delivered at least once, and nearly in order.

    It remembers its position. Several readers can share it: the server gives all events to one of them, as long as
    that one keeps asking. Nobody may rely on that, because a reader that was frozen still has what it received.
    """

    def __init__(self, broker: Broker, name: str, *, ack_wait: float = ACK_WAIT) -> None:
        """`ack_wait` is in seconds; the last one to declare the consumer sets it."""
        self._broker = broker
        self._name = name
        self.ack_wait = ack_wait
        self._created = 0
        self._pin = ""
        self._held: set[str] = set()

    async def declare(self) -> None:
        """Create the consumer, starting at the first event, or update one with other settings.

        A consumer that has the right settings is not touched. If a server created it while still removing the files of
        an older one with the same name, it refuses to write it again, although the consumer works.
        """
        config = consumer_config(self._name, self.ack_wait) | {
            "filter_subject": event_filter(),
            "max_ack_pending": MAX_PENDING,
            "priority_groups": [_GROUP],
            "priority_policy": "pinned_client",
            "priority_timeout": int(TURN * NANOSECONDS),
        }
        found = await self._broker.api(f"CONSUMER.INFO.{EVENTS}.{self._name}")
        if not config.items() <= found.get("config", {}).items():
            answer = await write_consumer(self._broker, EVENTS, config)
            if "config" in found and (code := error_code(answer)):
                log.warning("consumer has other settings", stream=EVENTS, consumer=self._name, error=code)
            else:
                found = answer
        created = int(parse_time(check(found)["created"]).timestamp() * NANOSECONDS)
        if created != self._created:
            self._created, self._pin = created, ""

    async def batches(self) -> AsyncGenerator[Sequence[Delivered], None]:
        """Events as they arrive, at most `BATCH` at a time, until the consumer has to be declared again.

        The numbers of a batch have no gap. The events of a batch are held until the next one is asked for.
        """
        self._held.clear()
        lost = self._broker.lost
        inbox = Inbox(BATCH, lost, self._held)
        async with self._broker.subscribe(self._broker.client.new_inbox(), cb=inbox.receive) as subscription:
            await self._pull(subscription.subject)
            asked_at = _now()
            while await inbox.fills(within=PULL_WAIT + ANSWER_MARGIN) and not lost.is_set():
                await any_of(inbox.complete, within=LINGER)
                messages, answered, status = inbox.take()
                self._pin = next((pin for message in messages if (pin := (message.headers or {}).get(PIN))), self._pin)
                pulled_at = asked_at
                if answered and status in {"", EXPIRED}:
                    await self._pull(subscription.subject)  # before the batch is processed
                    asked_at = _now()
                for batch in self._batches(messages, recent=_now() - pulled_at < RECENT):
                    yield batch
                    self._held.difference_update(event.ack_subject for event in batch)
                if status not in {"", EXPIRED}:
                    self._pin = ""
                    return

    async def _pull(self, inbox: str) -> None:
        turn = {"group": _GROUP, **({"id": self._pin} if self._pin else {})}
        await request_messages(self._broker, EVENTS, self._name, batch=BATCH, wait=PULL_WAIT, inbox=inbox, **turn)

    def _batches(self, messages: Iterable[Msg], *, recent: bool) -> Iterable[list[Delivered]]:
        batch: list[Delivered] = []
        for message in messages:
            event = _delivered(message, since=self._created, recent=recent)
            if event is None:
                continue
            if batch and event.number != batch[-1].number + 1:
                yield batch
                batch = []
            batch.append(event)
        if batch:
            yield batch

    async def heartbeat(self) -> None:
        """All events that were received are still being processed: do not deliver them again for another `ack_wait`."""
        for ack_subject in list(self._held):
            await self._broker.send(ack_subject, Msg.Ack.Progress)

    async def ack(self, events: Iterable[Delivered]) -> None:
        """Acknowledge events that have been processed. If an ack is lost, the event is delivered again."""
        for event in events:
            await self._broker.send(event.ack_subject, Msg.Ack.Ack)

    async def leave(self) -> None:
        """End this reader's turn, so that another one need not wait."""
        if self._pin:
            self._pin = ""
            await self._broker.api(f"CONSUMER.UNPIN.{EVENTS}.{self._name}", {"group": _GROUP})


def _now() -> float:
    return asyncio.get_running_loop().time()


def _delivered(message: Msg, *, since: int, recent: bool) -> Delivered | None:
    """The event in a message, by its ack subject. None if that is none."""
    try:
        position = position_of(message)
    except ValueError:
        return None
    seconds, nanoseconds = divmod(position.stored, NANOSECONDS)
    return Delivered(
        subject=message.subject,
        data=message.data,
        sequence=position.sequence,
        time=f"{_second(seconds)}.{nanoseconds:09d}Z",
        number=position.number,
        deliveries=position.deliveries,
        first=recent and position.deliveries == 1 and position.stored >= since,
        ack_subject=message.reply,
    )


@lru_cache(64)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
