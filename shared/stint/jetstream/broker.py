"""A connection to NATS, with JetStream's requests and errors as Stint wants them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stint.errors import BrokerUnavailableError, TooLargeError
from stint.jetstream.driver import NoAnswerError, check_url, collect, mapped, next_message, quietly_unsubscribe
from stint.waiting import InterruptedByEventError, unless

__all__ = ["Broker", "NoAnswerError", "next_message"]

log = structlog.get_logger()

HEADER_ROOM: Final = 8 * 1024
"""Bytes of a message kept free for headers: a publish over the server's limit closes the client for good."""
CONNECT_WAIT: Final = 2.0
"""Seconds between two attempts to connect."""
PING_INTERVAL: Final = 4
"""Seconds; with two unanswered pings a server that stands still is left within 12, before a runner would fence."""
RECONNECT: Final = 3.0
"""Seconds that a request waits for another server of a cluster to take over the connection."""

REPLICA_WAIT: Final = 2.0
"""Seconds for each message of a direct get: its replica may stand still, and then the leader is asked."""

T = TypeVar("T")


class Broker:
    """One process's connection. It is made in the background and kept for ever, through any number of outages.

    Attributes:
        connected: set while there is a connection.
        lost: set when this connection is lost. The next one has another event.
    """

    def __init__(self, url: str, *, prefix: str = "$JS.API", name: str = "stint", timeout: float = 5.0) -> None:
        """Nothing is sent before `start`.

        Args:
            url: servers, comma-separated.
            prefix: of the JetStream API.
            name: shown in the server's connection list.
            timeout: seconds that any request may take.

        Raises:
            ConfigError: the URL is not one.
        """
        self.prefix = prefix
        self.timeout = timeout
        self.client = Client()
        self.connected = asyncio.Event()
        self.lost = asyncio.Event()
        self._servers = [check_url(server.strip()) for server in url.split(",")]
        self._name = name
        self._connecting: asyncio.Task[None] | None = None
        self._complained = False
        self._closing = False

    def start(self) -> None:
        """Begin to connect."""
        self._connecting = asyncio.create_task(self._connect(), name="nats-connect")

    async def wait_connected(self) -> None:
        """Return once there is a connection, however long that takes."""
        await self.connected.wait()

    async def close(self) -> None:
        """Let go of the connection."""
        self._closing = True
        if self._connecting and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        try:
            await self.client.close()
        except OSError as error:  # it flushes first, and NATS may be gone
            log.debug("nats was gone at the end", error=type(error).__name__)

    async def connected_within(self, seconds: float) -> bool:
        """Whether there is a connection, or is one again by then."""
        try:
            async with asyncio.timeout(seconds):
                await self.connected.wait()
        except TimeoutError:
            return False
        return True

    async def _connect(self) -> None:
        await self.client.connect(
            self._servers,
            name=self._name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=CONNECT_WAIT,  # type: ignore[arg-type] # any number of seconds does
            ping_interval=PING_INTERVAL,
            # A publish while disconnected must fail, not be stored later: a ghost submission would run twice.
            pending_size=0,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_connect,
            closed_cb=self._on_closed,
        )
        await self._on_connect()

    async def _on_connect(self) -> None:
        self.lost = asyncio.Event()
        self.connected.set()
        url = self.client.connected_url
        log.info("nats connected", server=f"{url.hostname}:{url.port}" if url else "")
        self._complained = False

    async def _on_disconnect(self) -> None:
        self.connected.clear()
        self.lost.set()

    async def _on_error(self, error: Exception) -> None:
        if not self._complained:
            log.warning("nats not reachable, trying for ever", error=type(error).__name__)
            self._complained = True

    async def _on_closed(self) -> None:
        """The client gives up for good on some of the server's errors: end, so that a supervisor starts us again."""
        if not self._closing:
            log.error("the nats connection was closed for good, stopping", error=type(self.client.last_error).__name__)
            signal.raise_signal(signal.SIGTERM)

    # --- requests -----------------------------------------------------------------------------------------------

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        wait: float | None = None,
    ) -> Msg:
        """Send a request and wait for its answer, at most `wait` seconds, else the connection's own time-out.

        Raises:
            NoAnswerError: it was sent; whether it was taken is unknown. At once when the connection is lost.
            BrokerUnavailableError: it was not sent, or nobody listens there.
            TooLargeError: the server would not take it; nothing was sent.
        """
        if len(data) + HEADER_ROOM > self.client.max_payload:
            raise TooLargeError(f"A message of {len(data)} bytes is more than NATS takes.")
        await self._ready()
        with mapped():
            return await self._unless_lost(
                self.client.request(
                    subject, data, timeout=wait or self.timeout, headers=dict(headers) if headers else None
                )
            )

    async def _ready(self) -> None:
        """Return if there is a connection. In a cluster another server has it a moment after one is lost."""
        connected = self.client.is_connected and self.connected.is_set()
        if not connected and not (self._several and await self.connected_within(RECONNECT)):
            raise BrokerUnavailableError

    @property
    def _several(self) -> bool:
        """Whether there are other servers to go to."""
        return len(self.client.servers) > 1

    async def _unless_lost(self, answer: Coroutine[Any, Any, T]) -> T:
        """An answer; none comes any more once the connection that asked is lost."""
        try:
            return await unless(self.lost, answer)
        except InterruptedByEventError:
            raise NoAnswerError from None

    async def api(
        self, subject: str, request: Mapping[str, Any] | None = None, wait: float | None = None
    ) -> dict[str, Any]:
        """A request to the JetStream API. An answer that is an error comes back under `error`.

        Args:
            subject: without the prefix.
            request: the JSON body.
            wait: see `request`.
        """
        body = json.dumps(request).encode() if request is not None else b""
        answer: dict[str, Any] = json.loads((await self.request(f"{self.prefix}.{subject}", body, wait=wait)).data)
        return answer

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, wait: float | None = None
    ) -> dict[str, Any]:
        """Publish into a stream and wait for its acknowledgement, which may hold an `error`."""
        answer = await self.request(subject, data, headers=headers, wait=wait)
        parsed: dict[str, Any] = json.loads(answer.data) if answer.data else {}
        return parsed

    async def direct_get(self, stream: str, request: Mapping[str, Any]) -> list[Msg]:
        """Messages straight from a stream's nearest replica: a batch or a `multi_last`. Empty if there is none.

        Raises:
            NoAnswerError: that replica does not answer. In a cluster another one was asked too.
            BrokerRefusedError: the stream refused the request.
        """
        try:
            return await self._direct_get(stream, request)
        except NoAnswerError:
            if not self._several:
                raise
            return await self._direct_get(stream, request)

    async def _direct_get(self, stream: str, request: Mapping[str, Any]) -> list[Msg]:
        async with self.subscribe(self.client.new_inbox) as subscription:
            with mapped():
                await self.client.publish(
                    f"{self.prefix}.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=subscription.subject
                )
                return await self._unless_lost(collect(subscription, min(self.timeout, REPLICA_WAIT)))

    async def send(self, subject: str, data: bytes = b"", *, reply: str = "") -> None:
        """Publish without waiting for anything.

        Raises:
            BrokerUnavailableError: it was not sent.
        """
        if not self.client.is_connected:
            raise BrokerUnavailableError
        with mapped():
            await self.client.publish(subject, data, reply=reply)

    @asynccontextmanager
    async def subscribe(self, subject: Any, **options: Any) -> AsyncIterator[Subscription]:
        """A subscription for the duration of the block. `subject` may be a function that makes one."""
        await self._ready()
        with mapped():
            subscription = await self.client.subscribe(subject() if callable(subject) else subject, **options)
        try:
            yield subscription
        finally:
            if not self.client.is_closed:
                await quietly_unsubscribe(subscription)
