"""Pipes whose readers stand still."""

import contextlib
import os


def fill(writing: int) -> None:
    """Write to a pipe until it takes nothing more, not even a byte."""
    os.set_blocking(writing, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * size)
    os.set_blocking(writing, True)
