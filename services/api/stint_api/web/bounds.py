"""Limits on what one API process holds at a time for its clients: bytes of requests, and open streams."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from stint_api.errors import RETRY_AFTER, RefusalError

SMALL: Final = 16 * 1024
"""Bytes of a request for which there is always room, so that large ones shut nobody out: 8 MiB with 512 connections."""


class RequestBytes:
    """Counts the bytes of all request bodies, from their arrival until the request is answered."""

    def __init__(self, limit: int, *, largest: int) -> None:
        """`limit` is in bytes; no body is larger than `largest`."""
        self.limit = limit
        self.limit_of_one = max(limit - largest, largest)
        """However much one caller sends, the largest request of another finds room."""
        self.held: Counter[str] = Counter()

    @contextmanager
    def share(self, caller: str) -> Iterator["Share"]:
        """One request's part of them, given back after the block."""
        share = Share(self, caller)
        try:
            yield share
        finally:
            self.held[caller] -= share.size
            if not self.held[caller]:
                del self.held[caller]


class Share:
    """The bytes that one request holds."""

    def __init__(self, whole: RequestBytes, caller: str) -> None:
        self._whole = whole
        self._caller = caller
        self.size = 0

    def check(self, size: int) -> None:
        """Raise RefusalError if there is no room for that many bytes more. A client that only announces holds none."""
        if self.size + size <= SMALL:
            return
        if self._whole.held[self._caller] + size > self._whole.limit_of_one:
            whose = "this caller's requests"
        elif self._whole.held.total() + size > self._whole.limit:
            whose = "requests"
        else:
            return
        sentence = f"The API holds as many bytes of {whose} as it may. Try again later."
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER)

    def take(self, size: int) -> None:
        """Count bytes that have come, or raise as `check` does."""
        self.check(size)
        self.size += size
        self._whole.held[self._caller] += size


class OpenStreams:
    """Counts the open streams of each caller: event streams, and answers that are too large to be sent as a whole."""

    def __init__(self, limit: int) -> None:
        """`limit` is for each caller."""
        self._limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, caller: str) -> Callable[[], None]:
        """Count one more until the returned function is called. Raises RefusalError if there are too many."""
        if self._open[caller] >= self._limit:
            sentence = f"There are {self._limit} open event streams and large answers of this caller already."
            raise RefusalError(HTTPStatus.TOO_MANY_REQUESTS, sentence, retry_after=RETRY_AFTER)
        self._open[caller] += 1

        def leave() -> None:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

        return leave
