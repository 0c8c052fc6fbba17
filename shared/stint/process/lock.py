"""A lock for commands that must not write to the same folder at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(*folders: Path | None) -> Iterator[None]:
    """Hold a lock on each folder that is given, and wait for it first. Leaves no file behind."""
    with ExitStack() as resources:
        # In one order, so that two commands never wait for each other.
        for folder in sorted({os.path.realpath(folder) for folder in folders if folder}):
            # What writes to a missing folder reports it, and some file systems have no locks.
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                resources.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
