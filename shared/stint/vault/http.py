"""One HTTP/1.1 connection: a request at a time, and its answer, which httptools parses."""

import asyncio
from typing import Final, NamedTuple, cast

import httptools

LARGE: Final = 256 * 1024
"""Bytes of a request that are sent at a time; others have their turn in between."""
_INFORMATIONAL: Final = 200
"""A status below this precedes the answer."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
"""An answer without these headers ends with the connection."""


class Answer(NamedTuple):
    """The status and the body of an answer."""

    status: int
    body: bytes


class LostError(Exception):
    """The connection was lost before the end of an answer."""


class NotHttpError(Exception):
    """The answer is not HTTP."""


class Connection(asyncio.Protocol):
    """A connection that asyncio has opened.

    Attributes:
        reusable: whether it can take another request.
        idle_since: when it was put aside, by the event loop's clock; whoever keeps connections sets it.
    """

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser
    _timer: asyncio.TimerHandle

    def __init__(self) -> None:
        self.reusable = True
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._body = bytearray()
        self._headers_complete = self._framed = False
        self._silence = self._heard = self._end = 0.0

    async def exchange(self, request: bytes, *, silence: float, end: float) -> Answer:
        """Send a request, head and body, and read the whole answer. If that fails the connection is closed.

        Raises:
            TimeoutError: for `silence` seconds nothing came and nothing could be sent, or by the event loop's clock it
                is `end`.
            LostError, NotHttpError: see there.
        """
        self._answer, self._parser = self._loop.create_future(), httptools.HttpResponseParser(self)
        self._begin_message()
        self._silence, self._heard, self._end = silence, self._loop.time(), end
        self._check_time()
        if not self.reusable:  # it was lost a moment ago
            self._fail(LostError())
        complete = False
        try:
            await self._send(request)
            answer = await self._answer
            complete = True
            return answer
        finally:
            self._timer.cancel()
            self._answer = None
            if not complete or not self.reusable:
                self.close()

    def close(self) -> None:
        """Close it at once."""
        self.reusable = False
        self._transport.abort()

    async def _send(self, request: bytes) -> None:
        """Stops when there is an answer, which may come before the whole request is sent."""
        for start in range(0, len(request), LARGE):
            if start:
                await asyncio.sleep(0)
            if self._answer is None or self._answer.done():
                self.reusable = False
                return
            self._transport.write(request[start : start + LARGE] if len(request) > LARGE else request)
            if self._resumed is not None:
                await self._resumed

    def _check_time(self) -> None:
        """Fail if it is over, and look again when it may be. One timer costs less than one for each piece."""
        over = min(self._heard + self._silence, self._end)
        self._timer = self._loop.call_at(over, self._check_time)
        if over <= self._loop.time():
            self._timer.cancel()
            self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.resume_writing()

    # --- what asyncio calls -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what it is written to."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the answer."""
        if self._answer is None:  # nobody asked
            self.close()
            return
        self._heard = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(NotHttpError())

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete an answer that ends with the connection; any other one is lost."""
        if exc is None and self._headers_complete and not self._framed:
            self.on_message_complete()
        self._fail(LostError())

    def pause_writing(self) -> None:
        """Vault reads more slowly than we send."""
        self._resumed = self._resumed or self._loop.create_future()

    def resume_writing(self) -> None:
        """Vault has read."""
        self._heard = self._loop.time()
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    # --- what the parser calls --------------------------------------------------------------------------------------

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Remember whether the answer says where it ends."""
        self._framed = self._framed or name.lower() in _FRAMING

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._headers_complete = True

    def on_body(self, body: bytes) -> None:
        """Add to the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is complete, unless it only precedes the real one."""
        status = self._parser.get_status_code()
        if status < _INFORMATIONAL:
            self._begin_message()
        elif self._answer is None or self._answer.done():  # a second answer
            self.reusable = False
        else:
            self.reusable = self.reusable and self._parser.should_keep_alive()
            self._answer.set_result(Answer(status, bytes(self._body)))
            self.resume_writing()

    def _begin_message(self) -> None:
        self._body, self._headers_complete, self._framed = bytearray(), False, False
