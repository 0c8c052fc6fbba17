"""The answers of direct gets."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.jetstream.wire.protocol import NoAnswerError, status_of
from stint.jetstream.wire.shared_subscription import SharedSubscription


class Reads:
    """The direct gets that wait for answers.

    All share one subscription: one for each would cost a third of the client's CPU for a read, and a tenth of NATS'.

    Attributes:
        subscription: to be begun before the first read.
    """

    def __init__(self, client: Client) -> None:
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, Answers] = {}
        self.subscription = SharedSubscription(client, f"{self._inbox}.*", self._on_message)

    @contextmanager
    def answers(self) -> Iterator[tuple[str, "Answers"]]:
        """The subject to which a read's answers are to be sent during the block, and the answers."""
        inbox = f"{self._inbox}.{next(self._numbers)}"
        answers = self._waiting[inbox] = Answers()
        try:
            yield inbox, answers
        finally:
            del self._waiting[inbox]

    async def _on_message(self, message: Msg) -> None:
        if answers := self._waiting.get(message.subject):
            answers.add(message)


class Answers:
    """The answers of a direct get. nats-py's `next_msg` would take three times as long for each message."""

    def __init__(self) -> None:
        self._messages: list[Msg] = []
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def add(self, message: Msg) -> None:
        """The next one; the last has a status."""
        status = status_of(message)
        if not status:
            self._messages.append(message)
        elif not self._end.done():
            self._end.set_result(status)

    async def collect(self, wait: float) -> list[Msg]:
        """All up to the server's end mark; waits at most `wait` seconds without a message.

        Raises:
            NoAnswerError: none came in that time.
            BrokerRefusedError: the stream refused the request.
        """
        received = -1
        while not self._end.done():
            if received == len(self._messages):
                raise NoAnswerError
            received = len(self._messages)
            await asyncio.wait({self._end}, timeout=wait)
        match self._end.result():
            case "204" | "404":
                return self._messages
            case "503":
                raise BrokerUnavailableError
            case status:
                raise BrokerRefusedError(f"NATS refused a read: {status}.")
