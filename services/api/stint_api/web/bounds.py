"""What one API process holds at a time for its clients: bytes of requests, and open streams."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Final

from stint_api.errors import RefusalError

RETRY_AFTER: Final = 5
"""Seconds after which a client that was refused may try again."""


class RequestBytes:
    """Counts the bytes of all request bodies, from their arrival until the request is answered."""

    def __init__(self, limit: int, *, largest: int) -> None:
        """`limit` is in bytes; no body is larger than `largest`."""
        self._limit = limit
        # However much one caller sends, the largest request of another finds room.
        self._limit_of_one = max(limit - largest, largest)
        self._held: Counter[str] = Counter()

    @contextmanager
    def share(self, caller: str) -> Iterator["Share"]:
        """One request's part of them, given back after the block."""
        share = Share(self, caller)
        try:
            yield share
        finally:
            self._held[caller] -= share.size
            if not self._held[caller]:
                del self._held[caller]

    def check(self, caller: str, size: int) -> None:
        """Return if there is room for that many bytes more of this caller.

        Raises:
            RefusalError: there is not, for the moment.
        """
        if self._held[caller] + size > self._limit_of_one:
            sentence = "The API holds as many bytes of this caller's requests as it may. Try again later."
        elif self._held.total() + size > self._limit:
            sentence = "The API holds as many bytes of requests as it may. Try again later."
        else:
            return
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER)

    def take(self, caller: str, size: int) -> None:
        """Count bytes that have come.

        Raises:
            RefusalError: there is no room for them.
        """
        self.check(caller, size)
        self._held[caller] += size


class Share:
    """The bytes that one request holds."""

    def __init__(self, whole: RequestBytes, caller: str) -> None:
        self._whole = whole
        self._caller = caller
        self.size = 0

    def check(self, size: int) -> None:
        """See `RequestBytes.check`. Nothing is kept: a client that only announces bytes holds none."""
        self._whole.check(self._caller, size)

    def take(self, size: int) -> None:
        """See `RequestBytes.take`."""
        self._whole.take(self._caller, size)
        self.size += size


class OpenStreams:
    """Counts the open streams of each caller: event streams, and answers that are too large to be sent as a whole."""

    def __init__(self, limit: int) -> None:
        """`limit` is for each caller."""
        self._limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, caller: str) -> Callable[[], None]:
        """Count one more, up to the call of the function that is returned.

        Raises:
            RefusalError: the caller has as many as it may.
        """
        if self._open[caller] >= self._limit:
            sentence = f"There are {self._limit} open event streams and large answers of this caller already."
            raise RefusalError(HTTPStatus.TOO_MANY_REQUESTS, sentence, retry_after=RETRY_AFTER)
        self._open[caller] += 1
        return partial(self._leave, caller)

    def _leave(self, caller: str) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
