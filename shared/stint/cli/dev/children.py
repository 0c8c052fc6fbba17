"""The data directory of `stint dev`, and its child processes: started, restarted when they die, and stopped."""

import asyncio
import fcntl
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path
from typing import Final

import structlog

from stint.core.errors import ConfigError, StintError
from stint.process.env_file import write_private

log = structlog.get_logger()

LOCK: Final = "dev.lock"
"""In `run`: locked while anything of a stack lives. Contains the process id of its `stint dev`."""
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


@dataclass(frozen=True)
class DataDir:
    """A data directory that only this process and its children use, with `run/`, `log/` and the servers' data.

    Children inherit the descriptor `lock`: the directory is locked until the last process that has it ends.
    """

    path: Path
    lock: int

    @property
    def run(self) -> Path:
        """The folder for process ids."""
        return self.path / "run"


def claim(path: Path, resources: AsyncExitStack) -> DataDir:
    """Create and lock the data directory, until `resources` is closed and no child lives. Raises ConfigError."""
    run = path / "run"
    try:
        for folder in (run, path / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = resources.enter_context((run / LOCK).open("a", encoding="ascii"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for stale in run.glob("*.pid"):
            stale.unlink()
        lock.truncate(0)
        lock.write(f"{getpid()}\n")
        lock.flush()
    except BlockingIOError:
        parent = (run / LOCK).read_text(encoding="ascii").strip() or "starting"
        raise ConfigError(
            f"Another `stint dev` (process {parent}) uses {path}. "
            f"If it was killed, end the processes that it left: their ids are in {run}."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}.") from None
    return DataDir(path, lock.fileno())


@dataclass
class Child:
    """One process of the stack.

    Attributes:
        name: `<service>-<n>`; names its log and pid files.
        command: program and arguments, without secrets.
        data_dir: the directory of its log and pid files. The child keeps this directory locked as long as it lives.
        stop_within: seconds that it may take to stop after SIGTERM.
        lost: set when it dies; then it is not restarted. Without it, it is.
        keep_output: whether standard output goes to the log, as standard error does.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    data_dir: DataDir
    ready: Callable[[], Awaitable[bool]]
    stop_within: float = 10.0
    lost: asyncio.Event | None = None
    keep_output: bool = True
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _watching: "asyncio.Task[None] | None" = field(default=None, init=False)
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
        """Start it, wait until it is ready, and restart it whenever it dies.

        Raises ChildError, with the end of its log, if it exited, was not ready in time, or was stopped before.
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
        self._watching = asyncio.create_task(self._watch(self._process), name=self.name)

    async def _spawn(self) -> None:
        """Start the process, unless it is being stopped. `stop` waits for this, so that no process starts after it."""
        async with self._spawning:
            if self._stopping:
                return
            with self.log_path.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *_tethered(self.command),
                    env=dict(self.environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output if self.keep_output else asyncio.subprocess.DEVNULL,
                    stderr=output,
                    # Ctrl-C in the terminal must reach only the parent, which stops its children in order.
                    start_new_session=True,
                    pass_fds=(self.data_dir.lock,),
                )
            write_private(self.pid_path, f"{self._process.pid}\n")

    def _log_tail(self) -> str:
        return self.log_path.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip() or "it logged nothing"

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            if self._stopping:
                return
            self.pid_path.unlink(missing_ok=True)
            log.warning("child died", child=self.name, code=code, restart=self.lost is None)
            if self.lost:
                self.lost.set()
                return
            await asyncio.sleep(RESTART_PAUSE)
            try:
                await self._spawn()
            except (ConfigError, OSError) as error:  # of its log or pid file: it may run all the same
                log.warning("child could not be restarted in order", child=self.name, error=str(error))
            process = self._process or process

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after `stop_within`. Returns when the process has exited; it is not restarted."""
        self._stopping = True
        async with self._spawning:
            process = self._process
        if self._watching:
            self._watching.cancel()
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


def _tethered(command: Sequence[str]) -> Sequence[str]:
    """The command, run so that it gets a SIGTERM when this process dies: util-linux's setpriv asks the kernel for that.

    If this process died before setpriv asked, the shell behind it sees another parent, and does not start the command.
    The thread that starts it must live as long as this process.
    """
    setpriv = shutil.which("setpriv")
    only_here = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(getpid())]
    return [setpriv, "--pdeathsig", "TERM", *only_here, *command] if setpriv else command
