"""Child processes of `stint dev`: starts them, restarts them when they die, and stops them in order."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from stint.cli.dev.datadir import DataDir
from stint.cli.dev.tether import tethered
from stint.core.errors import StintError

log = structlog.get_logger()

READY_WITHIN: Final = 30.0
"""Seconds within which a child must be ready."""
POLL: Final = 0.05
"""Seconds between two checks whether it is ready."""
RESTART_PAUSE: Final = 1.0
"""Seconds before a child that died is restarted."""
LOG_TAIL: Final = 2000
"""Bytes of a child's log that are shown if it does not start."""


class ChildError(StintError):
    """A part of the embedded stack did not start."""


@dataclass
class Child:
    """One process of the stack.

    Attributes:
        name: `<service>-<n>`; names its log and pid files.
        command: program and arguments, without secrets.
        environment: its complete environment.
        data_dir: the directory of its log and pid files. The child keeps this directory locked as long as it lives.
        ready: tells whether it is ready.
        stop_within: seconds that it may take to stop after SIGTERM.
        restart: whether it is restarted when it dies.
        keep_output: whether standard output goes to the log, as standard error does.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    data_dir: DataDir
    ready: Callable[[], Awaitable[bool]]
    stop_within: float = 10.0
    restart: bool = True
    keep_output: bool = True
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _spawning: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def log_path(self) -> Path:
        """The file for its output."""
        return self.data_dir.path / "log" / f"{self.name}.log"

    @property
    def pid_path(self) -> Path:
        """The file that contains its process id while it runs."""
        return self.data_dir.run / f"{self.name}.pid"

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ChildError: it exited, was not ready in time, or was stopped before. The message shows the end of its log.
        """
        await self._spawn()
        if self._process is None:
            raise ChildError(f"{self.name} was stopped before it was started.")
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not await self.ready():
                    if self._process.returncode is not None:
                        raise ChildError(f"{self.name} ended at once: {self._log_tail()}")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise ChildError(f"{self.name} did not answer within {READY_WITHIN:g} s: {self._log_tail()}") from None

    async def _spawn(self) -> None:
        """Start the process, unless it is being stopped. `stop` waits for this, so that no process starts after it."""
        async with self._spawning:
            if not self._stopping:
                await self._spawn_now()

    async def _spawn_now(self) -> None:
        with self.log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(self.command),
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output if self.keep_output else asyncio.subprocess.DEVNULL,
                stderr=output,
                # Ctrl-C in the terminal must reach only the parent, which stops its children in order.
                start_new_session=True,
                pass_fds=(self.data_dir.lock,),
            )
        self._sign(self._process.pid)

    def _sign(self, pid: int) -> None:
        """Write the pid file atomically, so that nobody reads an incomplete one."""
        unfinished = self.pid_path.with_suffix(".tmp")
        unfinished.write_text(f"{pid}\n", encoding="utf-8")
        unfinished.replace(self.pid_path)

    def _log_tail(self) -> str:
        return self.log_path.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip() or "it logged nothing"

    async def watch(self) -> None:
        """Restart it whenever it dies, until it is stopped."""
        while self._process is not None:
            code = await self._process.wait()
            if self._stopping:
                return
            self.pid_path.unlink(missing_ok=True)
            log.warning("child died", child=self.name, code=code, restart=self.restart)
            if not self.restart:
                return
            await asyncio.sleep(RESTART_PAUSE)
            await self._spawn()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after `stop_within`. Returns when the process has exited; it is not restarted."""
        self._stopping = True
        async with self._spawning:
            process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(self.stop_within):
                await process.wait()
        except TimeoutError:
            log.warning("child killed: it did not stop in time", child=self.name)
            process.kill()
            await process.wait()
        self.pid_path.unlink(missing_ok=True)


def inherited_environment() -> dict[str, str]:
    """This process's environment without the tokens of its own Vault client."""
    return {name: value for name, value in os.environ.items() if name not in {"VAULT_TOKEN", "STINT_TOKEN"}}
