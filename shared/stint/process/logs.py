"""Logging for every process: one event a line on standard error, no secret in it."""

import contextlib
import io
import logging
import sys
from typing import TextIO

import stamina.instrumentation
import structlog


def configure() -> None:
    """Readable lines on a terminal, JSON elsewhere. The standard library's loggers only speak from warnings on."""
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        # Locals of a frame can hold a token: a traceback without them is what there is.
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
    )
    stamina.instrumentation.set_on_retry_hooks([_say_once])
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


class _NeverRaises(io.TextIOBase):
    """A stream whose reader may be gone: a line that cannot be written must not end what it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _say_once(details: stamina.instrumentation.RetryDetails) -> None:
    """That something is away is news once; that it still is, is not, though stamina's own hook would say so."""
    if details.retry_num == 1:
        log = structlog.get_logger()
        log.warning("a server is away, trying on", error=str(details.caused_by) or type(details.caused_by).__name__)
