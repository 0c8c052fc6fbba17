"""Logging for every process: one event a line on standard error, no secret in it."""

import logging
import sys

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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks([_say_once])
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def _say_once(details: stamina.instrumentation.RetryDetails) -> None:
    """That something is away is news once; that it still is, is not, though stamina's own hook would say so."""
    if details.retry_num == 1:
        log = structlog.get_logger()
        log.warning("a server is away, trying on", error=str(details.caused_by) or type(details.caused_by).__name__)
