"""Ctrl-C: the first stops the job, the second leaves at once."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from rich.console import Console

from stint.errors import StintError

INTERRUPTED: Final = 130
"""Exit code of Ctrl-C, as shells have it."""


class Interrupts:
    """Counts Ctrl-C. Before there is a job to kill, the first leaves at once too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._kill: Callable[[], Awaitable[None]] | None = None
        self._work: asyncio.Task[int] | None = None
        self._killing: asyncio.Task[None] | None = None
        self.happened = False

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Take SIGINT during the block."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def kills(self, kill: Callable[[], Awaitable[None]]) -> None:
        """From here on the first Ctrl-C calls this."""
        self._kill = kill

    async def around(self, work: Coroutine[Any, Any, int]) -> int:
        """The work's result, or 130 if it was left."""
        self._work = asyncio.create_task(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            if not self.happened:
                raise
            return INTERRUPTED
        finally:
            if self._killing:
                self._killing.cancel()
                await asyncio.gather(self._killing, return_exceptions=True)

    def interrupt(self) -> None:
        """A Ctrl-C."""
        again, self.happened = self.happened, True
        if self._work is None:
            return
        if again or self._kill is None:
            self._work.cancel()
            return
        self._killing = asyncio.create_task(self._stop(self._kill))

    async def _stop(self, kill: Callable[[], Awaitable[None]]) -> None:
        self._console.print("stint: stopping the job; Ctrl-C again leaves at once", markup=False)
        try:
            await kill()
        except StintError as error:
            self._console.print(f"stint: {error.sentence}", markup=False, highlight=False, soft_wrap=True)
