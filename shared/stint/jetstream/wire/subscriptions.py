"""Subscriptions that many share: a subscription for each would cost more than what it is for."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.names.headers import PENDING
from stint.core.names.subjects import live_filter
from stint.jetstream.wire.protocol import NoAnswerError, announced_sequence, status_of
from stint.ports import News


class SharedSubscription:
    """A subscription that is made when it is first needed, and stays as long as the client."""

    def __init__(self, client: Client, subject: str, heard: Callable[[Msg], Awaitable[None]]) -> None:
        self._client = client
        self._subject = subject
        self._heard = heard
        self._subscription: asyncio.Future[Subscription] | None = None

    async def begin(self) -> None:
        """Return once no message can be missed; does nothing if that was done before. Needs a connection."""
        if self._subscription is None:
            self._subscription = asyncio.ensure_future(self._client.subscribe(self._subject, cb=self._heard))
        await asyncio.shield(self._subscription)  # a second subscription would receive everything twice


class LiveEvents:
    """The events of all jobs as they come, for who follows one. `subscription` is to be begun before a job is followed.

    It is one that stays. Whenever one with wildcards ends, NATS goes through the ways back of all answers to requests
    of the last seconds: a subscription for each job took a fifth of its CPU at 70 jobs a second.
    """

    def __init__(self, client: Client) -> None:
        self._followers: dict[str, set[News]] = {}
        self.subscription = SharedSubscription(client, live_filter(), self._on_message)

    @contextmanager
    def follow(self, job_id: str) -> Iterator[News]:
        """What is announced of this job, in whatever queue, during the block."""
        news = News()
        self._followers.setdefault(job_id, set()).add(news)
        try:
            yield news
        finally:
            self._followers[job_id].remove(news)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def _on_message(self, message: Msg) -> None:
        _, job_id, *_ = message.subject.split(".")
        for news in self._followers.get(job_id, ()):
            news.announce(announced_sequence(message))


class Reads:
    """The direct gets that wait for answers. `subscription` is to be begun before the first one.

    All share it: one for each would cost a third of the client's CPU for a read, and a tenth of NATS'.
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


class Batch(list[Msg]):
    """The messages of a direct get. `ends` is whether its replica has no more that were asked for."""

    ends = False


class Answers:
    """The answers of a direct get. nats-py's `next_msg` would take three times as long for each message."""

    def __init__(self) -> None:
        self._messages = Batch()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def add(self, message: Msg) -> None:
        """The next one; the last has a status."""
        status = status_of(message)
        if not status:
            self._messages.append(message)
        elif not self._end.done():
            self._messages.ends = (message.headers or {}).get(PENDING) == "0"
            self._end.set_result(status)

    async def collect(self, wait: float) -> Batch:
        """All up to the end mark. Raises NoAnswerError after `wait` seconds without any, or BrokerRefusedError."""
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
