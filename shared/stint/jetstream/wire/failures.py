"""What failures of a connection mean, as sentences."""

import os
import ssl
from typing import Final

import nats.errors

from stint.core.errors import StintError

_WRONG: Final = "NATS refuses the user, password, token, key or certificate"
_MEANINGS: Final = {
    "authorization violation": _WRONG,
    "authorization failed": _WRONG,  # nats-py's own word for it, once it has closed the connection
    "authentication timeout": "NATS did not get the credentials in time",
    "user authentication": "the credentials have expired or were revoked",
    "account authentication": "the account's credentials have expired or were revoked",
    "stale connection": "pings were not answered",
    "permissions violation": "NATS does not permit this to the service's user",
}
"""Meanings of the server's `-ERR` by its first words. In NATS' protocol an error has no number, only a text."""


def reason_of(error: BaseException | None) -> str:
    """The reason for the failure of a connection or a request, as a sentence."""
    match error:
        case StintError():
            return error.sentence
        case nats.errors.UnexpectedEOF():
            return "The server closed the connection."
        case nats.errors.Error():
            return _of_server(error)
        case OSError():
            return _of_system(error)
        case _:
            return f"{type(error).__name__}."


def _of_server(error: nats.errors.Error) -> str:
    if isinstance(error, nats.errors.SlowConsumerError):  # its text names each message's subject
        return f"Messages on {error.sub.subject} came faster than they were read, and were dropped."
    words = str(error).removeprefix("nats: ").strip("'")
    meaning = next((meaning for begin, meaning in _MEANINGS.items() if words.lower().startswith(begin)), "")
    return f"{meaning}: {words}." if meaning else f"{words}."


def _of_system(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"The server's certificate is not accepted: {error.verify_message.rstrip('.')}."
        case ssl.SSLError():
            return f"TLS failed: {error.reason}."
        case TimeoutError():
            return "The server does not answer in time."
        case OSError(errno=int(number)) if number > 0:
            return f"{os.strerror(number)}."
        case _:
            return f"{error.strerror or error}."
