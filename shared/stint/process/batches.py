"""One call for what many callers ask for at the same time."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from stint.core.errors import StintError

Q = TypeVar("Q")
A = TypeVar("A")

BATCH_SIZE: Final = 64
"""Questions in one call."""


class Batches(Generic[Q, A]):
    """Asks one question at once; those that come meanwhile are asked together by the next call, without a timer."""

    def __init__(self, ask: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, alone: type[StintError]) -> None:
        """`ask` returns one answer for each question. If it raises `alone`, each question is asked on its own."""
        self._ask = ask
        self._alone = alone
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking = False
        self._others: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer, or what `ask` raises. Who is cancelled takes it back, unless it was asked with others."""
        if self._asking:
            self._waiting.append((question, asyncio.get_running_loop().create_future()))
            # In no variable: its error holds this frame, and those of the callers with what they encrypt.
            return await self._waiting[-1][1]
        self._asking = True
        try:
            (answer,) = await self._ask([question])
        finally:
            self._asking = bool(self._waiting)
            if self._asking:
                self._others = asyncio.create_task(self._ask_all())
        return answer

    async def _ask_all(self) -> None:
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            self._asking = False

    def _next(self) -> Sequence[tuple[Q, asyncio.Future[A]]]:
        waiting = [(question, answer) for question, answer in self._waiting if not answer.done()]
        batch, self._waiting = waiting[:BATCH_SIZE], waiting[BATCH_SIZE:]
        return batch

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        """Ask these questions. Callers that were cancelled during the call get nothing."""
        try:
            answers = await self._ask([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            await self._fail(batch, error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _fail(self, batch: Sequence[tuple[Q, asyncio.Future[A]]], error: Exception) -> None:
        if isinstance(error, self._alone) and len(batch) > 1:
            for one in batch:
                await self._answer([one])
            return
        for _, future in batch:
            if not future.done():
                future.set_exception(copy.copy(error))  # one that is raised holds the frames through which it went
