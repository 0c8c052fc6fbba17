"""Writes a job's output to the terminal."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from stint.cli.streams import NOT_WRITTEN, give_up
from stint.core.errors import StintError

Write = Callable[[str, bytes], Awaitable[None]]
"""Receives a job's output: the stream (`stdout`, `stderr` or `tty`) and its bytes."""


class ClosedOutputError(StintError):
    """Nobody reads the output any more. The job continues."""


class UnwritableOutputError(StintError):
    """The output cannot be written. A job that runs continues."""


async def to_terminal(stream: str, data: bytes) -> None:
    """Write bytes unchanged to standard output or error. In a thread, so that Ctrl-C works if the reader is blocked.

    Raises ClosedOutputError if the reader has closed its end, UnwritableOutputError if the disk is full or the like.
    """
    await asyncio.to_thread(_write, sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer, data)


def _write(target: BinaryIO, data: bytes) -> None:
    try:
        target.write(data)
        target.flush()
    except BrokenPipeError:
        give_up(target)
        raise ClosedOutputError from None
    except OSError as error:
        give_up(target)
        raise UnwritableOutputError(f"{NOT_WRITTEN.format(error.strerror)} A job that runs continues.") from None
