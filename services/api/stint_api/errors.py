"""Answers in the form of the API's contract, and the one place where errors become HTTP statuses."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse, PlainTextResponse, Response

from stint.core.errors import (
    BrokerUnavailableError,
    IllegalCommandError,
    InvalidJobIdError,
    InvalidQueueNameError,
    StintError,
    StreamMissingError,
    TooLargeError,
    UndecodableError,
    VaultError,
    VaultUnavailableError,
)

INVALID_REQUEST: Final = "Invalid request."
RATE_LIMITED: Final = "Vault takes no more requests at the moment: its rate limit is reached."
NO_VAULT: Final = "Vault is not reachable or does not answer."
RETRY_AFTER: Final = 5
"""Seconds after which a client that was refused for a limit of the API may try again."""
CLIENT_LEFT: Final = 499
"""For the access log, where web servers use it as well: the client left before its answer. Nobody receives it."""
_TITLES: Final = {
    400: "Invalid job request.",
    403: "Permission Denied.",
    413: "Too Large.",
    CLIENT_LEFT: "Client Closed Request.",
    500: "Internal Error.",
}
"""Where the contract's text is not the status' own phrase."""

_STATUSES: Final[Mapping[HTTPStatus, tuple[type[StintError], ...]]] = {
    HTTPStatus.BAD_REQUEST: (InvalidQueueNameError, InvalidJobIdError, UndecodableError, IllegalCommandError),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (TooLargeError,),
    HTTPStatus.SERVICE_UNAVAILABLE: (BrokerUnavailableError, StreamMissingError, VaultUnavailableError),
}

# As Go's encoder writes them, so that an answer can stand inside a page.
_ESCAPES: Final = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


class RefusalError(StintError):
    """The request is refused.

    Attributes:
        title: the error body's `status`; by default the contract's text for `code`.
        retry_after: seconds after which the same request may be sent again; 0 if that is not known.
        fields: further fields of the body.
    """

    def __init__(self, code: int, sentence: str, *, title: str = "", retry_after: int = 0, **fields: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.title = title or _TITLES.get(code) or f"{HTTPStatus(code).phrase}."
        self.retry_after = retry_after
        self.fields = fields

    def again(self) -> "RefusalError":
        """The same refusal as a new error. Keep and raise only this: one that was raised holds its request."""
        return RefusalError(self.code, self.sentence, title=self.title, retry_after=self.retry_after, **self.fields)


class UnknownOutcomeError(RefusalError):
    """Nobody can say yet whether the job was taken: a 503 that carries the job's id, so that the caller can look."""

    def __init__(self, job_id: str) -> None:
        sentence = "It is not known yet whether this was taken. Look again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _id=job_id)


@contextmanager
def unknown_if_cancelled(job_id: str) -> Iterator[None]:
    """Around what may be carried out although the API ends meanwhile: see `stint_api.middleware.telemetry`."""
    try:
        yield
    except asyncio.CancelledError:
        raise UnknownOutcomeError(job_id) from None


class JsonAnswer(JSONResponse):
    """One JSON object and a newline."""

    content_type = "application/json; charset=utf-8"

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Say the charset, as GoStint does; `media_type` is what the OpenAPI document shows."""
        super().init_headers({"content-type": self.content_type, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """Lone surrogates, which no encoding has, become `?`."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return f"{text.translate(_ESCAPES)}\n".encode(errors="replace")


def error_answer(error: StintError) -> Response:
    """Any error of Stint as the contract's error body."""
    refusal = refusal_of(error)
    body = {"status": refusal.title, "error": refusal.sentence, **refusal.fields}
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else None
    return JsonAnswer(body, status_code=refusal.code, headers=headers)


def refusal_of(error: StintError) -> RefusalError:
    """The error as a client is told of it."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, VaultError) and error.code == HTTPStatus.TOO_MANY_REQUESTS:
        return RefusalError(error.code, RATE_LIMITED)
    if isinstance(error, VaultUnavailableError) and not error.code:  # its sentence says at which address
        return RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, NO_VAULT)
    found = (status for status, shapes in _STATUSES.items() if isinstance(error, shapes))
    return RefusalError(next(found, HTTPStatus.INTERNAL_SERVER_ERROR), error.sentence)


def invalid(errors: Iterable[Mapping[str, Any]]) -> UndecodableError:
    """What pydantic found to be wrong. The sentence names the parameters, never their values."""
    wrong = (f"{found['loc'][-1]}: {found['msg'].removeprefix('Value error, ')}" for found in errors)
    return UndecodableError("; ".join(wrong))


def unknown_path() -> Response:
    """404 for a path without a route."""
    return PlainTextResponse("404 page not found\n", status_code=HTTPStatus.NOT_FOUND)
