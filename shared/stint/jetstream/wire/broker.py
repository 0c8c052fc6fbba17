"""Requests to NATS and JetStream, whose errors are mapped to Stint's."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import cached_property
from typing import Any, Final, TypeVar

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, TooLargeError
from stint.jetstream.wire.connection import Connection
from stint.jetstream.wire.protocol import ErrorCode, NoAnswerError, announced_sequence, error_code, status_of
from stint.jetstream.wire.requests import DeniedError
from stint.jetstream.wire.subscriptions import Batch, LiveEvents, Reads
from stint.ports import News

HEADER_ROOM: Final = 8 * 1024  # bytes of a message for its headers: a publish over the limit closes the client for good
RECONNECT: Final = 3.0  # seconds for which a request waits until another server has taken over the connection

LOGIN_WAIT: Final = 3.0  # seconds for a login beside the connection: the server refuses it after 2

REPLICA_WAIT: Final = 2.0  # seconds for each message of a direct get. If its replica is frozen, the leader is asked
FULL: Final = 8.0  # seconds for which a message that a stream has no room for is published again
FULL_PAUSE: Final = (0.005, 0.03)
"""Minimum and maximum of the seconds in between. Whoever asks more often than a flood's sender gets a place sooner."""

T = TypeVar("T")


class NoRespondersError(BrokerUnavailableError):
    """Nobody listens on the subject, so nothing was accepted."""


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except (nats.errors.TimeoutError, OSError):
        raise NoAnswerError from None
    except nats.errors.NoRespondersError:
        raise NoRespondersError from None
    except nats.errors.Error as error:
        raise BrokerUnavailableError(f"NATS: {type(error).__name__}.") from error


class Broker(Connection):
    """A connection with JetStream's requests.

    nats-py's own `JetStreamContext` waits for its time-out when the connection is lost, and has neither batches of
    direct gets nor atomic publishes.
    """

    async def request(
        self, subject: str, data: bytes = b"", *, headers: Mapping[str, str] | None = None, wait: float | None = None
    ) -> Msg:
        """Send a request and wait for its answer, for `wait` seconds or the connection's own time-out.

        Raises:
            NoAnswerError: it was sent, it is not known whether it was accepted. Raised at once on a lost connection.
            BrokerUnavailableError: it was not sent, nobody listens on the subject, or NATS does not permit it.
            TooLargeError: the server would not accept it; nothing was sent.
        """
        if len(data) + HEADER_ROOM > self.client.max_payload:
            raise TooLargeError(f"A message of {len(data)} bytes is larger than NATS accepts.")
        await self._ready()
        with _mapped():
            return await self.answer(
                subject,
                self.client.request(
                    subject, data, timeout=wait or self.timeout, headers=dict(headers) if headers else None
                ),
            )

    async def _ready(self) -> None:
        """Return if there is a connection. Wait a moment for another server of a cluster, or for the next login."""
        await self.usable.wait()
        connected = self.client.is_connected and self.connected.is_set()
        returns = self.several or self.client.login_ended
        if not connected and not (returns and await self.connected_within(RECONNECT)):
            raise BrokerUnavailableError

    @property
    def several(self) -> bool:
        """Whether the server is one of a cluster: there are others by the settings, or it has said so."""
        return len(self.client.servers) > 1 or "cluster" in self.client._server_info  # noqa: SLF001 - nats-py has no public way

    async def answer(self, subject: str, answer: Awaitable[T]) -> T:
        """The answer to a request on this subject, unless the server denies it or its connection is lost first."""
        return await self.requests.answer(subject, answer, lost=self.lost.is_set())

    async def api(
        self, subject: str, request: Mapping[str, Any] | None = None, wait: float | None = None
    ) -> dict[str, Any]:
        """Send a request to the JetStream API; `subject` has no prefix. An error is returned under `error`."""
        body = msgspec.json.encode(request) if request is not None else b""
        message = await self.request(f"{self.prefix}.{subject}", body, wait=wait)
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        return answer

    async def ask_permission(self, calls: Sequence[str]) -> Sequence[bool]:
        """Try these calls of the JetStream API by another login, and return which it permits; if any, log in again.

        Raises BrokerUnavailableError if NATS does not let the user in at the moment. This connection stays as it is.
        """
        other = Broker(self._access, prefix=self.prefix, name=self._name, timeout=LOGIN_WAIT, quiet=True)
        other.asks = self.asks
        async with other:
            if not await other.connected_within(LOGIN_WAIT):
                raise BrokerUnavailableError("NATS refuses another login, or `stint nats-auth` does not answer.")
            permitted = await asyncio.gather(*(other._permits(call) for call in calls))
        if any(permitted):
            await self.replace()
        return permitted

    async def _permits(self, call: str) -> bool:
        with suppress(NoAnswerError):  # a consumer without a leader does not answer; what is denied is denied at once
            try:
                await self.api(call)
            except DeniedError:
                return False
        return True

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, wait: float | None = None
    ) -> dict[str, Any]:
        """Publish to a stream and wait for its acknowledgement, which may contain an `error`.

        A message that the server has dropped because too many others wait is published again, for `FULL` seconds.
        """
        end = asyncio.get_running_loop().time() + FULL
        while True:
            answer = await self.request(subject, data, headers=headers, wait=wait)
            parsed: dict[str, Any] = msgspec.json.decode(answer.data) if answer.data else {}
            if error_code(parsed) != ErrorCode.TOO_MANY or asyncio.get_running_loop().time() >= end:
                return parsed
            await asyncio.sleep(random.uniform(*FULL_PAUSE))  # noqa: S311 - jitter

    async def direct_get(self, stream: str, request: Mapping[str, Any]) -> Batch:
        """Read messages from a stream's nearest replica: a batch or a `multi_last`. Empty if there are none.

        Raises NoAnswerError if no replica answered (in a cluster two were asked), BrokerRefusedError if it is refused.
        """
        return await self._from_a_replica(lambda: self._direct_get(stream, request))

    async def direct_last(self, stream: str, subject: str, wait: float = REPLICA_WAIT) -> Msg | None:
        """The last message on one subject, from the nearest replica; None if there is none.

        The request's own subject contains it, so that NATS' permissions can name it. Each of two replicas has `wait`
        seconds: a large message takes its time on a slow link, and longer if it is asked for again meanwhile.
        """
        asked = f"{self.prefix}.DIRECT.GET.{stream}.{subject}"
        message = await self._from_a_replica(lambda: self.request(asked, wait=wait))
        match status_of(message):
            case "":
                return message
            case "404":
                return None
            case status:
                raise BrokerRefusedError(f"NATS refused a read: {status}.")

    async def _from_a_replica(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of a read. If its replica does not answer, another one of the cluster may."""
        try:
            return await read()
        except NoAnswerError:
            if not self.several:
                raise
            return await read()

    async def _direct_get(self, stream: str, request: Mapping[str, Any]) -> Batch:
        await self._ready()
        with _mapped():
            await self._reads.subscription.begin()
            with self._reads.answers() as (inbox, answers):
                body = msgspec.json.encode(request)
                subject = f"{self.prefix}.DIRECT.GET.{stream}"
                await self.client.publish(subject, body, reply=inbox)
                return await self.answer(subject, answers.collect(min(self.timeout, REPLICA_WAIT)))

    @cached_property
    def _reads(self) -> Reads:
        return Reads(self.client)

    async def send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish without waiting for an answer. Raises BrokerUnavailableError if it was not sent."""
        await self.usable.wait()
        if not self.client.is_connected:
            raise BrokerUnavailableError
        with _mapped():
            await self.client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)

    @asynccontextmanager
    async def subscribe(self, subject: str, **options: Any) -> AsyncIterator[Subscription]:
        """A subscription during the block, with the options of nats-py."""
        await self._ready()
        with _mapped():
            subscription = await self.client.subscribe(subject, **options)
        try:
            yield subscription
        finally:
            with suppress(nats.errors.Error):  # without a connection nothing needs to be done
                await subscription.unsubscribe()

    @asynccontextmanager
    async def news_on(self, *subjects: str) -> AsyncIterator[News]:
        """What messages on these literal subjects announce. Their bodies are ignored: anybody may publish there."""
        news = News()

        async def on_message(message: Msg) -> None:
            news.announce(announced_sequence(message))

        async with AsyncExitStack() as subscriptions:
            for subject in subjects:
                await subscriptions.enter_async_context(self.subscribe(subject, cb=on_message))
            yield news

    @asynccontextmanager
    async def news_of(self, job_id: str) -> AsyncIterator[News]:
        """What is announced of this job's events, in whatever queue, during the block."""
        await self._ready()
        with _mapped():
            await self._live.subscription.begin()
        with self._live.follow(job_id) as news:
            yield news

    @cached_property
    def _live(self) -> LiveEvents:
        return LiveEvents(self.client)
