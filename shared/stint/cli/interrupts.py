"""Ctrl-C and SIGTERM: the first stops the job, the second exits at once."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console

from stint.core.errors import StintError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Handles signals. As long as no job can exist, the first signal exits at once too.

    Attributes:
        code: the exit code for the first signal, as in shells: 130 or 143. 0 if there was none.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._job = ""
        self._may_have_a_job = False
        self._kill: Callable[[], Awaitable[None]] | None = None
        self._work: asyncio.Task[int] | None = None
        self._killing: asyncio.Task[None] | None = None
        self.code = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals during the block. A signal that is ignored stays ignored."""
        loop = asyncio.get_running_loop()
        heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        for number in heeded:
            loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number in heeded:
                loop.remove_signal_handler(number)

    def may_have_a_job(self) -> None:
        """A job may exist from now on: the first signal waits until this is known, and then stops the job."""
        self._may_have_a_job = True

    def kills(self, job_id: str, kill: Callable[[], Awaitable[None]]) -> None:
        """The job exists: the first signal calls `kill`. If that signal has already come, it is called at once."""
        self._job, self._kill = job_id, kill
        if self.code:
            self._killing = asyncio.create_task(self._stop(kill))

    async def around(self, work: Coroutine[Any, Any, int]) -> int:
        """Run the work; returns its result, or the signal's exit code if a signal ended it."""
        self._work = asyncio.create_task(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            if not self.code:
                raise
            self._say_what_is_left()
            return self.code
        finally:
            if self._killing:
                self._killing.cancel()
                await asyncio.gather(self._killing, return_exceptions=True)

    def interrupt(self, number: int) -> None:
        """Handle a signal."""
        again, self.code = bool(self.code), self.code or 128 + number
        if self._work is None:
            return
        if again or not self._may_have_a_job:
            self._work.cancel()
            return
        self._say("stopping the job; Ctrl-C again exits at once")
        if self._kill:
            self._killing = asyncio.create_task(self._stop(self._kill))

    async def _stop(self, kill: Callable[[], Awaitable[None]]) -> None:
        try:
            await kill()
        except StintError as error:
            self._say(error.sentence)

    def _say_what_is_left(self) -> None:
        if self._may_have_a_job and not self._kill:
            self._say("it is not known whether the job was submitted")
        elif self._killing and not self._killing.done():
            self._say(f"Stint has not answered: job {self._job} may still run")

    def _say(self, text: str) -> None:
        self._console.print(f"stint: {text}", markup=False, highlight=False, soft_wrap=True)
