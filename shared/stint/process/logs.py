"""Logging for every process: one event per line on standard error, without secrets."""

import contextlib
import logging
import sys
from typing import TextIO

import stamina.instrumentation
import structlog


def configure() -> None:
    """Log readable lines on a terminal, JSON elsewhere; of the standard library's loggers only warnings and errors."""
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_NeverRaises(sys.stderr)),  # type: ignore[arg-type] # it only writes and flushes
        cache_logger_on_first_use=True,
    )
    stamina.instrumentation.set_on_retry_hooks([_log_first_retry])
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


class _NeverRaises:
    """A stream that ignores write errors: a log line that cannot be written must not stop the work that it reports.

    Not an `io.TextIOBase`: Python would flush that once more at exit, when this module's imports may already be gone.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _log_first_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log only the first retry; stamina's own hook would log each."""
    if details.retry_num == 1:
        log = structlog.get_logger()
        log.warning("server unavailable, retrying", error=str(details.caused_by) or type(details.caused_by).__name__)
