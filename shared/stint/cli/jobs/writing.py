"""Writes a job's output to the terminal."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from stint.core.errors import StintError

Write = Callable[[str, bytes], Awaitable[None]]
"""Receives a job's output: the stream (`stdout`, `stderr` or `tty`) and its bytes."""


class ClosedOutputError(StintError):
    """Nobody reads the output any more. The job continues."""


async def to_terminal(stream: str, data: bytes) -> None:
    """Write bytes unchanged to standard output or error. In a thread, so that Ctrl-C works if the reader is blocked.

    Raises:
        ClosedOutputError: the reader has closed its end.
    """
    await asyncio.to_thread(_write, sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer, data)


def _write(target: BinaryIO, data: bytes) -> None:
    try:
        target.write(data)
        target.flush()
    except BrokenPipeError:
        # What is still buffered is flushed once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())
        raise ClosedOutputError from None
