"""A service's process and who starts it again when it ends."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

RESTART: Final = 0.3
"""Seconds between an end and the next start."""
STOP: Final = 60.0
"""Seconds for an orderly end."""


class Supervised:
    """`python -m MODULE`, started again whenever it ends. `exits` counts the codes of ends that no fault caused."""

    def __init__(self, name: str, module: str, environ: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.exits: Counter[int] = Counter()
        self._module = module
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **environ}
        self._log = log
        self._process: Process | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._killed = False
        self._stopping = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For the duration of the block, then an orderly end."""
        supervising = asyncio.create_task(self._supervise(), name=self.name)
        try:
            yield
        finally:
            self._stopping = True
            self.resume()
            self._signal(signal.SIGTERM)
            self._may_run.set()
            await self._ended(supervising)

    async def _ended(self, supervising: "asyncio.Task[None]") -> None:
        await asyncio.wait({supervising}, timeout=STOP)
        if not supervising.done():
            self._signal(signal.SIGKILL)
        await supervising

    async def _supervise(self) -> None:
        while not self._stopping:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", self._module, env=self._environ, stdin=DEVNULL, stdout=log, stderr=log
                )
            code = await self._process.wait()
            if not self._killed and not self._stopping:
                self.exits[code] += 1
            self._killed = False
            await self._may_run.wait()
            if not self._stopping:
                await asyncio.sleep(RESTART)

    def kill(self) -> None:
        """SIGKILL; it is not started again before `resume`."""
        self._may_run.clear()
        self._killed = True
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, and leave to start again."""
        self._may_run.set()
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
