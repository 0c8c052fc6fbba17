"""Requests that wait for an answer. They end as soon as it is known that none will come."""

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from stint.core.errors import BrokerUnavailableError
from stint.jetstream.wire.protocol import NoAnswerError

_DENIAL: Final = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
"""In NATS' protocol an error has no number, only a text. nats-py gives it in lower case."""

T = TypeVar("T")


class DeniedError(BrokerUnavailableError):
    """NATS does not permit this request to the user, so nothing was accepted."""


@dataclass(eq=False)
class _Request:
    subject: str
    waiting: asyncio.Timeout
    denied: bool = False

    def end(self, *, denied: bool) -> None:
        self.denied = denied
        if self.waiting.when() is None:
            self.waiting.reschedule(asyncio.get_running_loop().time())


class Requests:
    """The requests of a connection that have no answer yet."""

    def __init__(self) -> None:
        self._open: set[_Request] = set()
        self.idle = asyncio.Event()  # set while there are none
        self.idle.set()

    async def answer(self, subject: str, answer: Awaitable[T], *, lost: bool) -> T:
        """The answer to a request. Raises NoAnswerError if none comes in time, or before the connection is lost."""
        request = _Request(subject.lower(), asyncio.timeout(0 if lost else None))
        try:
            async with request.waiting:
                self._open.add(request)
                self.idle.clear()
                return await cancellable(answer)
        except TimeoutError:  # also nats-py's own
            raise (DeniedError if request.denied else NoAnswerError) from None
        finally:
            self._open.discard(request)
            if not self._open:
                self.idle.set()

    def lose(self) -> None:
        for request in self._open:
            request.end(denied=False)

    def on_error(self, error: Exception) -> None:
        """End the requests that this error of the server denies."""
        if denial := _DENIAL.search(str(error)):
            for request in self._open:
                if request.subject == denial[1].lower():
                    request.end(denied=True)


async def cancellable(work: Awaitable[T]) -> T:
    """Await a call of nats-py without losing a cancellation.

    Before Python 3.12 `asyncio.wait_for`, which it uses, swallows one that comes together with the result.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result
