"""The data directory of `stint dev`: for one stack at a time, and for no other while a killed one's servers live."""

import fcntl
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from stint.core.errors import ConfigError

LOCK: Final = "dev.lock"
"""In `run/`: locked while anything of a stack lives, and holds the process id of its `stint dev`."""


@dataclass(frozen=True)
class DataDir:
    """A data directory that is this process's own.

    Attributes:
        path: where `run/`, `log/` and the servers' stores are.
        lock: descriptor that children inherit: the directory is taken until the last process that has it open is gone.
    """

    path: Path
    lock: int

    @property
    def run(self) -> Path:
        """Where process ids stand."""
        return self.path / "run"


def claim(path: Path, resources: AsyncExitStack) -> DataDir:
    """Make the data directory, and keep others out of it as long as `resources` is open or a child lives.

    Raises:
        ConfigError: it cannot be made, or processes of another `stint dev` use it; says which.
    """
    run = path / "run"
    try:
        for folder in (run, path / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = resources.enter_context((run / LOCK).open("a", encoding="ascii"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sign(run, lock)
    except BlockingIOError:
        raise ConfigError(_used_by(path)) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}.") from None
    return DataDir(path, lock.fileno())


def _sign(run: Path, lock: TextIO) -> None:
    for stale in run.glob("*.pid"):
        stale.unlink()
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _used_by(path: Path) -> str:
    run = path / "run"
    if parent := _holder(run / LOCK, run / LOCK):
        return f"Another `stint dev` (process {parent}) uses {path}."
    left = [f"{file.stem} (process {pid})" for file in sorted(run.glob("*.pid")) if (pid := _holder(file, run / LOCK))]
    if left:
        return f"Another `stint dev` on {path} was killed; wait for what it left, or end it: {', '.join(left)}."
    return f"Another `stint dev` uses {path}."


def _holder(pid_file: Path, lock: Path) -> int | None:
    """The other process named in that file, if it has the lock open. None where there is no /proc.

    That a process is alive says too little: its id may be another's by now.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if pid == os.getpid():
        return None
    return pid if any(_same(opened, lock) for opened in Path(f"/proc/{pid}/fd").glob("*")) else None


def _same(opened: Path, file: Path) -> bool:
    try:
        return opened.samefile(file)
    except OSError:  # closed since it was listed
        return False
