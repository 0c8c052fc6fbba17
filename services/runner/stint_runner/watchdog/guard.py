"""Keeps the watchdog process beside a runner."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from stint.core.errors import StintError
from stint.process.environment import load
from stint.process.settings import EngineSettings
from stint_runner.watchdog.deadlines import Deadlines
from stint_runner.watchdog.watchdog import READY

log = structlog.get_logger()

WATCHDOG: Final = "stint_runner.watchdog"  # the module that is run
READY_WITHIN: Final = 30.0  # seconds within which it must have written `READY`
RESTART_PAUSE: Final = 1.0  # seconds before one that died is started again

_NEEDED: Final = re.compile(r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|PYTHON[A-Z]+")
"""What any process needs from the environment."""


class WatchdogError(StintError):
    """The watchdog does not start."""


class _Process:
    """A watchdog. Not a subprocess of asyncio's, which is killed along with the loop: this one may have to stay."""

    def __init__(self, folder: Path, module: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, folder, str(os.getpid())],
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # signals for the runner must not reach it
        )
        self._handle = os.pidfd_open(self._popen.pid)
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._handle, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        self._popen.wait()
        self._ended.set()

    async def ready(self) -> None:
        """Return once it watches. Raises WatchdogError if it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN):
                if self._popen.stdout and await asyncio.to_thread(self._popen.stdout.readline) == READY:
                    return
        raise WatchdogError

    async def wait(self) -> int:
        """Its exit code."""
        await self._ended.wait()
        return self._popen.returncode

    async def stop(self) -> None:
        """SIGKILL, as it may be frozen and has nothing to finish, and wait."""
        self._popen.kill()
        await self._ended.wait()
        self.leave()

    def leave(self) -> None:
        """Stop waiting for it, whether it runs or not."""
        if not self._ended.is_set():
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
        if self._popen.stdout:
            self._popen.stdout.close()


@asynccontextmanager
async def guarded(deadlines: Deadlines, module: str = WATCHDOG) -> AsyncIterator[None]:
    """Run a watchdog over these deadlines during the block, and another if it dies. Raises WatchdogError if none runs.

    If a deadline is left at the end, the watchdog continues until the job is dead.
    """
    process = await _start(deadlines.folder, module)

    async def keep() -> None:
        nonlocal process
        while True:
            code = await process.wait()
            deadlines.watched = False
            log.error("watchdog died, starting another", code=code)
            process.leave()
            process = await _started_again(deadlines.folder, module)
            deadlines.watched = True

    keeping = asyncio.create_task(keep(), name="watchdog")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        if any(deadlines.all()):  # a job may still run
            process.leave()
        else:
            await process.stop()


async def _started_again(folder: Path, module: str) -> _Process:
    failed = False
    while True:
        await asyncio.sleep(RESTART_PAUSE)
        try:
            return await _start(folder, module)
        except Exception:  # a runner must not be without one for good
            if not failed:
                log.exception("the watchdog does not start, retrying")
            failed = True


async def _start(folder: Path, module: str) -> _Process:
    process = _Process(folder, module)
    try:
        await process.ready()
    except BaseException:
        await process.stop()
        raise
    return process


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a watchdog gets of the environment: the engine's settings, read here because that takes 8 MB; no secrets."""
    engine = load(EngineSettings, own).model_dump()
    needed = {name: value for name, value in own.items() if _NEEDED.fullmatch(name)}
    return needed | {name.upper(): value for name, value in engine.items() if value}
