"""A lock for commands that must not write to the same folder at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(*folders: Path) -> Iterator[None]:
    """Hold a lock on each of these folders, and wait for it first. Leaves no file behind."""
    with ExitStack() as resources:
        descriptors = dict[tuple[int, int], int]()
        for folder in folders:
            with suppress(OSError):  # what writes to a missing folder reports it
                descriptor = os.open(folder, os.O_RDONLY)
                resources.callback(os.close, descriptor)
                status = os.fstat(descriptor)
                descriptors[status.st_dev, status.st_ino] = descriptor
        # Each once, under whatever name, and in one order, so that no command waits for itself or for one that waits.
        for _, descriptor in sorted(descriptors.items()):
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
