"""Logging for every process: one event per line on standard error, without secrets."""

import contextlib
import logging
import os
import select
import sys
from typing import Final, TextIO

import stamina.instrumentation
import structlog

from stint.core.errors import StintError

PIECE: Final = select.PIPE_BUF
"""Bytes that are written at a time: a pipe that takes any takes so many without waiting, and none of others between."""
PATIENCE_MS: Final = 100
"""Milliseconds that a reader may take to make room, before what is logged is dropped until there is some."""


def configure(level: str = "info") -> None:
    """Log from `level` on: readable lines on a terminal, JSON elsewhere; of other loggers only warnings and errors."""
    stream = _NeverHinders(sys.stderr)
    renderer = (
        structlog.dev.ConsoleRenderer(repr_native_str=True)  # what others wrote moves no cursor
        if sys.stderr.isatty()
        # A traceback must not show local variables, which may contain a token.
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type] # it only writes and flushes
        cache_logger_on_first_use=True,
    )
    stamina.instrumentation.set_on_retry_hooks([_log_first_retry])
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def tell(sentence: str) -> None:
    """Say why this process ends."""
    _NeverHinders(sys.stderr).write(f"stint: {sentence}\n")


class _NeverHinders:
    """A stream on which writing neither fails nor waits: a log line must not stop the work that it reports.

    A pipe whose reader stands still, as a terminal does after Ctrl-S, would stop a runner and its watchdog at once.

    Not an `io.TextIOBase`: Python would flush that once more at exit, when this module's imports may already be gone.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = 0

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            if self._dropped and self._has_room():
                dropped, self._dropped = self._dropped, 0
                self._write(f"\nstint: lines missing from the log here, because nobody read it: {dropped}\n")
            self._write(text)
        return len(text)

    def flush(self) -> None:
        """Everything is written already."""

    def _write(self, text: str) -> None:
        left = memoryview(text.encode(self._stream.encoding, "backslashreplace"))
        while left:
            if not self._has_room():
                self._dropped += 1
                return
            left = left[os.write(self._stream.fileno(), left[:PIECE]) :]

    def _has_room(self) -> bool:
        """Whether a piece can be written, or fails at once."""
        poll = select.poll()
        poll.register(self._stream.fileno(), select.POLLOUT)
        return bool(poll.poll(0 if self._dropped else PATIENCE_MS))


def _log_first_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log only the first retry; stamina's own hook would log each."""
    if details.retry_num == 1:
        error = details.caused_by
        said = error.sentence if isinstance(error, StintError) else type(error).__name__
        structlog.get_logger().warning("server unavailable, retrying", error=said)
