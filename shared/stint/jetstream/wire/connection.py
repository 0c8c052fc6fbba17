"""A process's connection to NATS, which is restored after every outage."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn, Self, TypeVar

import nats.errors
import structlog

from stint.core.errors import BrokerClosedError
from stint.jetstream.wire.access import Access
from stint.jetstream.wire.failures import reason_of
from stint.jetstream.wire.requests import Requests
from stint.process.waiting import InterruptedByEventError, any_of, unless

log = structlog.get_logger()

CONNECT_WAIT: Final = 2.0  # seconds between two attempts to connect
PING_INTERVAL: Final = 3
"""Seconds. A server that is frozen or cut off is left within 9 s: the last renewal of a lease may be 5 s older, and the
fence comes after 15 s. One whose messages still come, but no answers to pings, is left within 12 s."""
UNANSWERED: Final = 3  # pings: a link of 1 Mbit/s needs 8 s for the two parts of a payload before an answer
LOG_AGAIN: Final = 30.0
"""Seconds after which the same reason for a failure is logged again if it has not occurred meanwhile. Attempts are 2 s
apart, and several servers may fail in turns, each for its own reason."""
ANSWERS_WAIT: Final = 1.0  # seconds for which answers are awaited before a connection is replaced, and then the new one
CLOSE_WAIT: Final = 2.0  # seconds that a server has to take what was sent before the connection is closed

T = TypeVar("T")


class Connection:
    """A process's connection. It is established in the background, and again after every outage.

    After some errors of the server, such as a changed password, the client gives up for good. The owner waits for that
    with `while_open` and ends the process, and a supervisor starts it again.
    """

    def __init__(
        self,
        access: Access | str,
        *,
        prefix: str = "$JS.API",
        name: str = "stint",
        timeout: float = 5.0,
        quiet: bool = False,
    ) -> None:
        """Nothing is sent before `start`, or before the connection is entered.

        `access` may also be the servers alone, comma-separated. The server's list of connections shows `name`. A
        `quiet` connection logs nothing. Raises ConfigError if servers, certificates or credentials are invalid.
        """
        self.prefix = prefix  # of the JetStream API
        self.timeout = timeout  # seconds that any request may take
        access = Access(url=access) if isinstance(access, str) else access
        self.client = access.client()
        self.connected = asyncio.Event()  # set while there is a connection
        self.lost = asyncio.Event()  # set when this connection is lost. The next connection has another event
        self.usable = asyncio.Event()  # not set while the connection is being replaced
        self.usable.set()
        self.requests = Requests()  # those without an answer. They end when the connection is lost
        self.closed = asyncio.Event()  # set when the client has given up for good; not set by `close`
        # Gives what a login with an nkey asks `stint nats-auth` for: consumers' names, separated by spaces.
        self.asks: Callable[[], str] = str
        self._servers, self._options = access.servers, {**access.options()}
        if access.nkey:
            self._options["token"] = self._asked
        self._access, self._name = access, name
        self._connecting: asyncio.Task[None] | None = None
        self._logged: dict[str, float] = {}
        self._failure = ""
        self._closing = False
        self._connected_at = 0.0
        self._quiet = quiet

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def start(self) -> None:
        self._connecting = asyncio.create_task(self._connect(), name="nats-connect")
        self._connecting.add_done_callback(self._on_connect_done)

    async def wait_connected(self) -> None:
        await self.connected.wait()

    async def while_open(self, work: Awaitable[T]) -> T:
        """The result of `work`. If the connection is closed for good, cancel it, and raise BrokerClosedError."""
        try:
            return await unless(self.closed, work)
        except InterruptedByEventError:
            self.check_open()
            raise

    async def anew(self, work: Callable[[], Awaitable[object]]) -> NoReturn:
        """Do this while there is a connection, and begin it again after each outage, until cancelled."""
        while True:
            await self.wait_connected()
            with suppress(InterruptedByEventError):
                await unless(self.lost, work())

    async def serve(self, work: Awaitable[object], stopping: asyncio.Event) -> None:
        """Connect, do the work until `stopping`, and close. Raises BrokerClosedError if NATS closed it for good."""
        async with self:
            with suppress(InterruptedByEventError):
                await unless(stopping, self.while_open(work))

    def check_open(self) -> None:
        """Raise BrokerClosedError if the connection was closed for good."""
        if self.closed.is_set():
            raise BrokerClosedError(f"The connection to NATS was closed for good: {self._failure}")

    async def close(self) -> None:
        self._closing = True
        if self._connecting and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        # In a task: it fails if NATS is gone, waits until a frozen one takes what was sent, and says that it was
        # cancelled if it comes while the client leaves a server.
        closing = asyncio.create_task(self.client.close())
        await asyncio.wait({closing}, timeout=CLOSE_WAIT)
        if not closing.done():
            self.client.abort()
        (failure,) = await asyncio.gather(closing, return_exceptions=True)
        if failure and not isinstance(failure, OSError | asyncio.CancelledError):
            raise failure

    async def connected_within(self, seconds: float) -> bool:
        return await any_of(self.connected, within=seconds)

    async def settled(self) -> None:
        """Return when there is a connection that can be replaced at once: nats-py waits between two attempts."""
        await self.wait_connected()
        await asyncio.sleep(self._connected_at + CONNECT_WAIT - asyncio.get_running_loop().time())

    async def replace(self) -> None:
        """Connect anew, by another login. Requests that come meanwhile wait, some 20 ms, and 3 s at most.

        It waits a moment for answers that are due. Later ones are lost, as in an outage.
        """
        lost = self.lost
        self.usable.clear()
        try:
            await any_of(self.requests.idle, within=ANSWERS_WAIT)
            if not lost.is_set():
                await self.client.force_reconnect()
                if not await any_of(lost, within=ANSWERS_WAIT):
                    self.client.abort()  # it waits until a frozen NATS takes what was sent
                await self.connected_within(ANSWERS_WAIT)
        finally:
            self.usable.set()

    def _asked(self) -> str:
        return self.asks()

    async def _connect(self) -> None:
        await self.client.connect(
            self._servers,
            name=self._name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=CONNECT_WAIT,  # type: ignore[arg-type] # any number of seconds does
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=UNANSWERED,
            # A publish while disconnected must fail, not be stored later: a ghost submission would run twice.
            pending_size=0,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_connect,
            closed_cb=self._on_closed,
            **self._options,
        )
        await self._on_connect()

    def _on_connect_done(self, task: "asyncio.Task[None]") -> None:
        """Attempts are unlimited, so an error that ends them is one that another attempt would not repair."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.give_up(error)

    async def _on_connect(self) -> None:
        self.lost = asyncio.Event()
        self.connected.set()
        self._connected_at = asyncio.get_running_loop().time()
        url = self.client.connected_url
        if not (self._quiet or self.client.login_ended):
            log.info("nats connected", server=f"{url.hostname}:{url.port}" if url else "")
        self._logged.clear()

    async def _on_disconnect(self) -> None:
        self.connected.clear()
        self.lost.set()
        self.requests.lose()
        error, self.client.left_for = self.client.left_for, None
        if error and not self._quiet:
            log.warning("nats connection lost", error=reason_of(error))
        reconnecting = asyncio.current_task()
        if self.client.is_reconnecting and reconnecting:  # in the calling task, whose result nobody else checks
            reconnecting.add_done_callback(self._on_connect_done)

    async def _on_error(self, error: Exception) -> None:
        """End what is denied. Log each reason once, and again if it returns after `LOG_AGAIN` seconds."""
        self.requests.on_error(error)
        if self.client.is_connected and isinstance(error, nats.errors.UnexpectedEOF):
            return  # `_on_disconnect` says so
        reason, now = reason_of(error), asyncio.get_running_loop().time()
        kind = reason.rstrip('".').rpartition(".")[0] or reason  # a denial names a subject, whose last part is a queue
        before = self._logged.get(kind, -LOG_AGAIN)
        self._logged[kind] = now
        if now - before >= LOG_AGAIN and not self._quiet:
            said = "nats reported an error" if self.connected.is_set() else "nats not reachable, retrying"
            log.warning(said, error=reason)

    async def _on_closed(self) -> None:
        if not self._closing:
            self.give_up(self.client.last_error)

    def give_up(self, error: BaseException | None) -> None:
        """Count the connection as closed for good: the process ends, with this reason."""
        self._failure = reason_of(error)
        self.connected.clear()
        self.closed.set()
