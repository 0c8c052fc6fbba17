"""Reads a bucket from a revision on: what it has, as fast as it gives that, and then what comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError
from stint.core.names.streams import kv_stream
from stint.core.names.subjects import kv_subject
from stint.jetstream.consuming.pulls import ANSWER_MARGIN, EXPIRED, Inbox, request_messages
from stint.jetstream.streams.bucket import Bucket, Entry
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, NoAnswerError, check, position_of

BATCH: Final = 500
"""Messages that one pull asks for, and of a page: two milliseconds of work for who reads views. As in `EventFeed`, so
many of the largest views must not be too much for a connection."""
PULL_WAIT: Final = 1.0  # seconds that a pull stays open without a message
KEPT: Final = 10  # seconds after the last pull for which the server keeps the consumer


@asynccontextmanager
async def following(broker: Broker, name: str, *, after: int) -> AsyncIterator[AsyncIterator[list[Entry]]]:
    """The entries of the bucket with this name that have a revision above `after`, in pages.

    A page is empty when all that there is has been given, and at least once in `PULL_WAIT`.

    The pages come from a consumer in the server's memory. That takes a quarter of the time of direct gets, whose
    messages carry their place in headers. The iterator raises `BrokerUnavailableError` when the consumer is lost.
    """
    bucket, stream, inbox = Bucket(broker, name), kv_stream(name), Inbox(BATCH, broker.lost)
    async with broker.subscribe(broker.client.new_inbox(), cb=inbox.receive) as subscription:
        config = {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "filter_subject": kv_subject(name, ">"),
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": KEPT * NANOSECONDS,
        }
        request = {"stream_name": stream, "config": config}
        consumer = check(await broker.api(f"CONSUMER.CREATE.{stream}", request))
        pages = _pages(broker, consumer, inbox, subscription.subject)
        yield ([bucket.followed(message) for message in page] async for page in pages)


async def _pages(broker: Broker, consumer: dict[str, Any], inbox: Inbox, reply: str) -> AsyncIterator[list[Msg]]:
    number, over, pending = 0, True, int(consumer["num_pending"])
    if not pending:
        yield []
    while True:
        if over:  # before the page is given away, so that the next one is on its way meanwhile
            stream, name = consumer["stream_name"], consumer["name"]
            await request_messages(broker, stream, name, batch=BATCH, wait=PULL_WAIT, inbox=reply)
        page, over, status = await _next(inbox)
        if page:
            last = position_of(page[-1])
            number, pending = number + len(page), last.pending
            if last.number != number:
                raise BrokerUnavailableError("Messages of NATS were lost on their way.")
            yield page
        if status not in {"", EXPIRED}:
            raise BrokerUnavailableError(f"NATS ended a read: {status}.")
        if status or not pending:
            yield []


async def _next(inbox: Inbox) -> tuple[list[Msg], bool, str]:
    if not await inbox.fills(within=PULL_WAIT + ANSWER_MARGIN):
        raise NoAnswerError
    return inbox.take()
