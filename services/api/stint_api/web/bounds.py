"""What one API process holds at a time for its clients: bytes of requests, and open event streams."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from stint_api.errors import RefusalError
from stint_api.web.sse import EventStream

RETRY_AFTER: Final = 5
"""Seconds after which a client that was refused may try again."""


class RequestBytes:
    """Counts the bytes of all request bodies, from their arrival until the request is answered."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self.limit = limit
        self.held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """One request's part of them, given back after the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.size


class Share:
    """The bytes that one request holds."""

    def __init__(self, whole: RequestBytes) -> None:
        self._whole = whole
        self.size = 0

    def check(self, size: int) -> None:
        """Return if there is room for that many bytes more. It is not kept: who only announces bytes holds none.

        Raises:
            RefusalError: there is not, for the moment.
        """
        if self._whole.held + size > self._whole.limit:
            sentence = "The API holds as many bytes of requests as it may. Try again later."
            raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER)

    def take(self, size: int) -> None:
        """Count bytes that have come.

        Raises:
            RefusalError: there is no room for them.
        """
        self.check(size)
        self.size += size
        self._whole.held += size


class OpenStreams:
    """Counts the open event streams of each caller."""

    def __init__(self, limit: int) -> None:
        """`limit` is for each caller."""
        self._limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, caller: str) -> None:
        """Count one more; `leave` takes it back.

        Raises:
            RefusalError: the caller has as many as it may.
        """
        if self._open[caller] >= self._limit:
            sentence = f"There are {self._limit} open event streams of this caller already."
            raise RefusalError(HTTPStatus.TOO_MANY_REQUESTS, sentence, retry_after=RETRY_AFTER)
        self._open[caller] += 1

    def leave(self, caller: str) -> None:
        """One is closed."""
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]


class CountedStream(EventStream):
    """An event stream that counts until it ends."""

    def __init__(self, events: AsyncGenerator[bytes, None], streams: OpenStreams, caller: str) -> None:
        """Raises RefusalError as `OpenStreams.enter` does."""
        streams.enter(caller)
        super().__init__(events)
        self._streams = streams
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream to its end."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave(self._caller)
