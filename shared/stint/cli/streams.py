"""Standard input, output and error, as a shell may leave them: closed, on a disk that is full, or not in UTF-8."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final

import typer

from stint.cli.errors import UNREACHABLE

NOT_WRITTEN: Final = "The output cannot be written: {}."
_FAILURES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a disk or a terminal, and of nothing else that a command does with standard output."""


def open_streams() -> None:
    """Open those that the shell closed (`>&-`) as /dev/null. Python has None for them, which nobody expects.

    With `PYTHONUNBUFFERED`, which images often set, Python would drop what a full disk takes no more of, without an
    error. Standard output has `?` for a character that its encoding lacks, such as the `…` of a table.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - as long as the program runs
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(getattr(stream, "buffer", None), RawIOBase):
            coding = {"encoding": stream.encoding, "errors": stream.errors}
            setattr(sys, name, open(stream.fileno(), "w", buffering=1, closefd=False, **coding))  # noqa: SIM115 - as long as the program runs
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def give_up(target: IO[Any]) -> None:
    """Let what is still buffered go nowhere: it is flushed once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())


@contextmanager
def written() -> Iterator[None]:
    """Print that the output cannot be written as a sentence, and exit."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAILURES:
            raise
        give_up(sys.stdout)
        typer.echo(f"stint: {NOT_WRITTEN.format(error.strerror)}", err=True)
        raise SystemExit(UNREACHABLE) from None
