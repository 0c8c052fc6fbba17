"""The access log: one line a request, without anything that a client wrote."""

from http import HTTPStatus
from typing import Final

import structlog

from stint_api.middleware.measured import Answered

log = structlog.get_logger()

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by whoever supervises the process: said only when they fail."""


def write_line(answered: Answered) -> None:
    """Say who asked for what, what came of it, and how long it took. Of a token there is its accessor."""
    if answered.path in PROBES and answered.code == HTTPStatus.OK:
        return
    caller = answered.caller
    who = {"who": caller.name, "entity": caller.entity, "accessor": caller.accessor} if caller else {"who": ""}
    log.info(
        "request",
        method=answered.method,
        route=answered.path,
        status=answered.code,
        ms=round(answered.seconds * 1000, 1),
        **who,
    )
