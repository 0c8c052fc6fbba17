"""Interprets the server's answers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError

STATUS: Final = "Status"
SEQUENCE: Final = "Nats-Sequence"
"""Set by the server on messages that it reads from a stream; it overwrites a publisher's own header."""

IN_PROGRESS: Final = 10164
"""In a cluster: a message on this subject is being replicated, and it is not known whether it will be stored."""


def status_of(message: Msg) -> str:
    """The status of a message that the server itself created, "" for a stored message.

    A publisher can set any header, but neither an ack subject nor a stream's sequence.
    """
    headers = message.headers or {}
    return "" if message.reply or SEQUENCE in headers else headers.get(STATUS, "")


def error_code(answer: Mapping[str, Any]) -> int:
    """JetStream's own error number, 0 if the answer is no error. The HTTP-like code is too coarse."""
    error = answer.get("error")
    return int(error.get("err_code", error.get("code", 0))) if error else 0


def check(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer if it is not an error.

    Raises:
        BrokerUnavailableError: the server cannot carry out the request now.
        BrokerRefusedError: the server refuses the request.
    """
    if error := answer.get("error"):
        sentence = f"NATS: {error.get('description', 'error')} ({error.get('err_code', 0)})."
        later = error.get("code") == HTTPStatus.SERVICE_UNAVAILABLE or error_code(answer) == IN_PROGRESS
        raise (BrokerUnavailableError if later else BrokerRefusedError)(sentence)
    return answer
