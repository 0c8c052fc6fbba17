"""What the server's answers say."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError

STATUS: Final = "Status"
SEQUENCE: Final = "Nats-Sequence"
"""Set by the server on what it reads out of a stream, over whatever the publisher put there."""

IN_PROGRESS: Final = 10164
"""In a cluster: a message to this subject is on its way through the replicas, and it is not known what comes of it."""


def status_of(message: Msg) -> str:
    """Tell a stored message, which has none, from one that the server made itself.

    A publisher can put any header into a message, but neither an ack subject nor the sequence of a stream.
    """
    headers = message.headers or {}
    return "" if message.reply or SEQUENCE in headers else headers.get(STATUS, "")


def error_code(answer: Mapping[str, Any]) -> int:
    """JetStream's own error number of an answer, 0 if it is none; the HTTP-like code says too little."""
    error = answer.get("error")
    return int(error.get("err_code", error.get("code", 0))) if error else 0


def check(answer: dict[str, Any]) -> dict[str, Any]:
    """Hand on an answer that is no error.

    Raises:
        BrokerUnavailableError: the server cannot do it now.
        BrokerRefusedError: it will not do it.
    """
    if error := answer.get("error"):
        sentence = f"NATS: {error.get('description', 'error')} ({error.get('err_code', 0)})."
        later = error.get("code") == HTTPStatus.SERVICE_UNAVAILABLE or error_code(answer) == IN_PROGRESS
        raise (BrokerUnavailableError if later else BrokerRefusedError)(sentence)
    return answer
