"""Reads a stream from a position on: what it has, as fast as it gives that, and then what comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError
from stint.jetstream.consuming.consumers import request_messages
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, NoAnswerError, check, position_of, status_of
from stint.process.waiting import any_of

BATCH: Final = 500
"""Messages that one pull asks for, and that a page has at most: two milliseconds of work for who reads views."""
PULL_WAIT: Final = 1.0
"""Seconds that a pull stays open without a message."""
ANSWER_MARGIN: Final = 0.5
"""Seconds after that within which the server must have said so. A consumer in memory is lost with its server."""
KEPT: Final = 10
"""Seconds after the last pull for which the server keeps the consumer."""

_EXPIRED: Final = "408"


@asynccontextmanager
async def following(
    broker: Broker, stream: str, pattern: str, *, after: int
) -> AsyncIterator[AsyncIterator[list[Msg]]]:
    """The messages on these subjects with a sequence above `after`, in pages; see `protocol.position_of`.

    A page is empty when all that there is has been given, and at least once in `PULL_WAIT`.

    The pages come from a consumer in the server's memory. That takes a quarter of the time of direct gets, whose
    messages carry their place in headers. The iterator raises `BrokerUnavailableError` when the consumer is lost.
    """
    inbox = _Inbox(broker.lost)
    async with broker.subscribe(broker.client.new_inbox(), cb=inbox.add) as subscription:
        config = {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "filter_subject": pattern,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": KEPT * NANOSECONDS,
        }
        request = {"stream_name": stream, "config": config}
        consumer = check(await broker.api(f"CONSUMER.CREATE.{stream}", request))
        yield _pages(broker, consumer, inbox, subscription.subject)


async def _pages(broker: Broker, consumer: dict[str, Any], inbox: "_Inbox", reply: str) -> AsyncIterator[list[Msg]]:
    number, open_for, pending = 0, 0, int(consumer["num_pending"])
    if not pending:
        yield []
    while True:
        if not open_for:  # before the page is given away, so that the next one is on its way meanwhile
            stream, name = consumer["stream_name"], consumer["name"]
            await request_messages(broker, stream, name, batch=BATCH, wait=PULL_WAIT, inbox=reply)
            open_for = BATCH
        page, status = await inbox.take()
        open_for = 0 if status else open_for - len(page)
        if page:
            last = position_of(page[-1])
            number, pending = number + len(page), last.pending
            if last.number != number:
                raise BrokerUnavailableError("Messages of NATS were lost on their way.")
            yield page
        if status not in {"", _EXPIRED}:
            raise BrokerUnavailableError(f"NATS ended a read: {status}.")
        if status or not pending:
            yield []


class _Inbox:
    """What has arrived and was not taken yet."""

    def __init__(self, lost: asyncio.Event) -> None:
        """`lost` is set when the connection is lost."""
        self._lost = lost
        self._news = asyncio.Event()
        self._messages: list[Msg] = []
        self._status = ""

    async def add(self, message: Msg) -> None:
        """The next message; one with a status ends a pull."""
        if status := status_of(message):
            self._status = status
        else:
            self._messages.append(message)
        self._news.set()

    async def take(self) -> tuple[list[Msg], str]:
        """The messages that have arrived, and how the pull has ended, "" if it has not.

        Raises:
            NoAnswerError: neither came in time, or the connection was lost.
        """
        if not self._news.is_set():
            await any_of(self._news, self._lost, within=PULL_WAIT + ANSWER_MARGIN)
        if not self._news.is_set():
            raise NoAnswerError
        self._news.clear()
        taken = self._messages, self._status
        self._messages, self._status = [], ""
        return taken
