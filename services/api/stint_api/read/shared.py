"""A question that many ask, and that is asked once for all of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Final, Generic, TypeVar

T = TypeVar("T")

REMEMBERED: Final = 1.0
"""Seconds for which an answer counts: anybody may ask, without a token."""


class Shared(Generic[T]):
    """All who ask while the question is under way, or `REMEMBERED` seconds after it, get the same answer, or error."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._asking: asyncio.Task[T] | None = None
        self._good_until = 0.0

    async def __call__(self) -> T:
        """The answer. Raises what the question raises."""
        if self._asking is None or (self._asking.done() and self._monotonic() >= self._good_until):
            self._asking = asyncio.create_task(self._answer(), name="shared question")
        asking = self._asking
        await asyncio.wait({asking})
        if error := asking.exception():
            raise copy(error)  # the error itself is kept, and would keep the frames of each request that it passed
        return asking.result()

    async def _answer(self) -> T:
        try:
            return await self._ask()
        finally:
            self._good_until = self._monotonic() + REMEMBERED
