"""Connections that cannot be held for nothing: time limits on what clients send, and a limit on how many there are.

Uvicorn bounds the size of a request's head, and the idle time between two requests. It waits for ever for the rest of a
head or body that a client began to send; so the time limits are here.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final

import h11
import structlog
from uvicorn import Config
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from stint_api.errors import RefusalError, error_answer
from stint_api.web.bounds import RETRY_AFTER

log = structlog.get_logger()

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers."""
LINGER: Final = 3
"""Times the request time-out for which the rest of a body is read, and thrown away, when its answer has been sent: a
client that sends all before it reads gets its answer so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What each connection must keep to.

    Attributes:
        connections: how many there may be.
        timeout: seconds in which a request's head must come, and over which a body's rate is measured.
        body_rate: the fewest bytes a second of a body; 0 is no limit.
    """

    connections: int
    timeout: float
    body_rate: float


def limited(limits: ConnectionLimits) -> type[H11Protocol]:
    """A protocol for uvicorn, with these limits."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


class _LimitedProtocol(H11Protocol):
    """One connection. At most one of its timers runs: for a head, or for a body, that has not come whole yet."""

    limits: ClassVar[ConnectionLimits]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._ours = False
        self._lingered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Count it, and begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            sentence = "There are as many connections as there may be. Try again later."
            self._refuse(RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER))
            return
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and see what it still owes."""
        if self.transport.is_closing():
            return
        self._received += len(data)
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._wait_for_head()
        self._look()

    def on_response_complete(self) -> None:
        """Uvicorn waits for the next request then; but that may have begun, or this one may not have come whole."""
        super().on_response_complete()
        if self._head_began() and self._head_timer is None:
            self._unset_keepalive_if_required()
            self._wait_for_head()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_timers()
        super().connection_lost(exc)

    # --- timers -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        state = self.conn.their_state
        if state is not h11.IDLE and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if state is h11.SEND_BODY and self._body_timer is None:
            self._lingered = 0
            self._wait_for_body()
        elif state is not h11.SEND_BODY and self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._body_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._body_timer = None

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.timeout, self._head_is_late)

    def _head_began(self) -> bool:
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_began() and not self.transport.is_closing():
            self._refuse(RefusalError(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not come in time."))
        else:
            self.transport.close()

    def _wait_for_body(self) -> None:
        self._received = 0
        self._ours = self._keeps_it_waiting()
        self._body_timer = self.loop.call_later(self.limits.timeout, self._measure_body)

    def _keeps_it_waiting(self) -> bool:
        """Whether it is this server that does not read, or has not said yet that it will."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _measure_body(self) -> None:
        self._body_timer = None
        ours = self._ours or self._keeps_it_waiting()
        slow = not ours and self._received < self.limits.body_rate * self.limits.timeout
        self._lingered += self.cycle.response_complete
        if self._lingered > LINGER or (slow and self.cycle.response_started):
            self.transport.abort()
        elif slow:
            self._refuse(RefusalError(HTTPStatus.REQUEST_TIMEOUT, "The request's body comes too slowly."))
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            self._wait_for_body()

    def _refuse(self, refusal: RefusalError) -> None:
        """Answer in the place of the application, and close."""
        log.debug("connection closed", reason=refusal.sentence)
        self._stop_timers()
        answer = error_answer(refusal)
        headers = [*self.server_state.default_headers, *answer.raw_headers, CLOSE_HEADER]
        head = h11.Response(status_code=refusal.code, headers=headers, reason=STATUS_PHRASES[refusal.code])
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
