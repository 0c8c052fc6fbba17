"""Limits on connections: how many there are, and how long clients may take to send a request and to read its answer.

Uvicorn limits the idle time between two requests. It waits for ever for the rest of a head or body that a client began
to send, and for a client that does not read its answer. So those limits are here.
"""

import asyncio
import fcntl
import ssl
import sys
import termios
from contextlib import suppress
from http import HTTPStatus
from typing import ClassVar, Final

import structlog
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from stint.process.settings import ApiSettings
from stint_api.errors import RETRY_AFTER, RefusalError, error_answer
from stint_api.web.protocol import Part, TrackedProtocol

log = structlog.get_logger()

LINGER: Final = 3
"""Times the request time-out for which the rest of a body is read, and dropped, after its answer was sent: a client
that sends everything before it reads gets its answer so."""
REFUSED: Final = "refused"
"""Key of a request's `state`: the status with which the connection itself answered it."""


def limited(settings: ApiSettings, tls: ssl.SSLContext | None) -> type[TrackedProtocol]:
    """A protocol for uvicorn with these limits, which starts TLS itself: see `_start_tls`."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": settings, "tls": tls})


class _LimitedProtocol(TrackedProtocol):
    """One connection. One timer runs while a head or a body is incomplete, and another while an answer is unread."""

    limits: ClassVar[ApiSettings]
    tls: ClassVar[ssl.SSLContext | None]

    _transports: tuple[asyncio.Transport, ...] = ()
    _early: bytes = b""
    _timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _began: float = 0.0
    _received: int = 0
    _ours: bool = False
    _lingered: int = 0

    # --- what asyncio and uvicorn call ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Count it, and begin to wait for a request, or first for TLS."""
        self._attach(transport)
        full = len(self.connections) > self.limits.connections
        if full and self.tls:
            transport.abort()  # an answer would need the handshake
        elif full:
            sentence = "There are as many connections as there may be. Try again later."
            self._refuse(RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER))
        elif self.tls:
            transport.pause_reading()
            task = self.loop.create_task(self._start_tls(transport, self.tls))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and see what it still owes."""
        if self.tls and len(self._transports) == 1:
            self._early += data  # it came with the end of the handshake, of which nobody has told this protocol yet
            return
        if self.transport.is_closing():
            return
        self._received += len(data)
        super().data_received(data)
        self._look()

    def part_complete(self) -> None:
        """Stop waiting for it."""
        self._stop_timer()

    def on_response_complete(self) -> None:
        """Uvicorn waits for the next request then; but that may have begun, or this one may be incomplete."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for anything."""
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self.can_refuse():
            self._refuse(RefusalError(HTTPStatus.BAD_REQUEST, self.fault or msg))
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        """A part of an answer waits for its client."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Nothing waits for the client any more."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    # --- TLS --------------------------------------------------------------------------------------------------------

    def _attach(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # `pause_writing` is then called as soon as anything waits for the client to read it.
        transport.set_write_buffer_limits(high=1, low=0)
        self._transports += (transport,)

    async def _start_tls(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        """Agree on TLS. A listener with TLS calls its protocol only after the handshake: until then nobody counts."""
        encrypted: asyncio.Transport | None = None  # which it also is if the client leaves during the handshake
        try:
            encrypted = await self.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self.limits.request_timeout,
                ssl_shutdown_timeout=self.limits.send_timeout,  # the end of an answer may be unread until then
            )
        except OSError as error:
            log.debug("no TLS connection", error=type(error).__name__)
        if encrypted is None or plain.is_closing():
            plain.abort()
            self.connections.discard(self)
            return
        self._attach(encrypted)
        self._wait_for_head()
        if self._early:
            self.data_received(self._early)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin to wait for a body, or for a head that has begun; one behind a request has time until that's answer."""
        if self._timer is not None or self.transport.is_closing():
            return
        if self.owed is Part.BODY:
            self._lingered = 0
            self._began = self.loop.time()
            self._wait_for_body()
        elif self.head_began and not self.answering():
            self._unset_keepalive_if_required()
            self._wait_for_head()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for_head(self) -> None:
        self._began = self.loop.time()
        self._timer = self.loop.call_later(self.limits.request_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._timer = None
        if self.head_began and not self.transport.is_closing():
            self._refuse(RefusalError(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not come in time."))
        else:
            self.transport.abort()

    def _wait_for_body(self) -> None:
        self._received, self._ours = 0, self._keeps_it_waiting()
        self._timer = self.loop.call_later(self.limits.request_timeout, self._measure_body)

    def _keeps_it_waiting(self) -> bool:
        """Whether it is this server that does not read, or has not said yet that it will."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _measure_body(self) -> None:
        self._timer = None
        late = self.loop.time() - self._began > self.limits.body_timeout
        ours = self._ours or self._keeps_it_waiting()
        slow = not ours and self._received < self.limits.body_rate * self.limits.request_timeout
        self._lingered += self.cycle.response_complete
        if self._lingered > LINGER or ((late or slow) and not self.can_refuse()):
            self.transport.abort()
        elif late or slow:
            fault = "did not come in time" if late else "comes too slowly"
            self._refuse(RefusalError(HTTPStatus.REQUEST_TIMEOUT, f"The request's body {fault}."))
        else:
            self._wait_for_body()

    # --- answers ----------------------------------------------------------------------------------------------------

    def _unread(self) -> int:
        """Bytes that the client has not acknowledged: those in the kernel too, which asks for more in large steps."""
        queued = bytearray(4)
        with suppress(OSError, AttributeError):  # not every system tells, and a TLS connection just lost has no socket
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        waiting = sum(transport.get_write_buffer_size() for transport in self._transports)
        return waiting + int.from_bytes(queued, sys.byteorder)

    def _wait_for_reader(self) -> None:
        self._send_timer = self.loop.call_later(self.limits.send_timeout, self._measure_reader, self._unread())

    def _measure_reader(self, before: int) -> None:
        """Nothing is written while the client is waited for, so that what is gone was read."""
        if before - self._unread() < max(1, self.limits.body_rate * self.limits.send_timeout):
            log.debug("connection closed", reason="The client does not read its answer.")
            self.transport.abort()
        else:
            self._wait_for_reader()

    def _refuse(self, refusal: RefusalError) -> None:
        """Answer in the place of the application, and close."""
        self._stop_timer()
        if not self.answering():  # the application does not see this request, and does not log it
            ms = round((self.loop.time() - self._began) * 1000, 1) if self._began else 0.0
            log.info("request", method="", route="", status=int(refusal.code), ms=ms, who="")
        else:
            self.scope["state"][REFUSED] = refusal.code
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = error_answer(refusal)
        headers = [*self.server_state.default_headers, *answer.raw_headers, CLOSE_HEADER]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.code] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()
