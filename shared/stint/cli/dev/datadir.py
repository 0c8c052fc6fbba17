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
    parent = (run / LOCK).read_text(encoding="ascii").strip() or "starting"
    return (
        f"Another `stint dev` (process {parent}) uses {path}. "
        f"If it was killed, end the processes that it left: their ids are in {run}."
    )
