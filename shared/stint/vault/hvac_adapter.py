"""How hvac is used: answers are JSON objects, and errors are mapped by their HTTP status."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import hvac
import hvac.adapters

from stint.core.errors import (
    ConfigError,
    VaultDeniedError,
    VaultError,
    VaultNotFoundError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.vault.connections import Connections, Request

_BY_STATUS: Final[dict[int, type[VaultError]]] = {
    403: VaultDeniedError,
    404: VaultNotFoundError,
    # Temporary: a proxy's login, its time-out, a lagging replica (Vault Enterprise), a rate limit.
    401: VaultUnavailableError,
    408: VaultUnavailableError,
    412: VaultUnavailableError,
    429: VaultUnavailableError,
}

_SHAPES: Final = {"data": dict | None, "auth": dict | None, "errors": list | None, "warnings": list | None}
"""Of what Vault's answers consist."""
_OF_PROXIES: Final = frozenset({401, 408, 412, 413, 429, 431})
"""Those about a request that mean the same if a proxy, or Go's HTTP server itself, says them in words of its own."""

_token: Final[ContextVar[str]] = ContextVar("token")


@contextmanager
def as_token(token: str) -> Iterator[None]:
    """Send the requests of the block with this token."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


class AsyncAdapter(hvac.adapters.JSONAdapter):  # type: ignore[misc]  # hvac ships no types
    """Lets hvac make requests, and sends them on the event loop: what hvac's methods return has to be awaited.

    Answers are JSON objects; anything else is raised as one of Stint's errors. The token is always that of `as_token`.
    """

    async def request(self, method: str, url: str, **kwargs: Any) -> dict[str, Any]:
        """The body of the answer to a request of hvac; {} if it is empty."""
        self.token = _token.get()  # read by the next line, which waits for nothing
        request: Request = hvac.adapters.RawAdapter.request(self, method, url, **kwargs)
        status, text = await self.session.send(request)
        body = _json_object(text)
        if not _is_of_vault(status, body):
            raise VaultUnavailableError(f"{self.base_uri} does not answer like a Vault server.")
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(request.method, status, request.url, body or {})
        return body or {}


def new_client(connections: Connections) -> Any:
    """An hvac client whose methods return awaitables."""
    return hvac.Client(  # noqa: TID251 - the one factory; its token is always explicit
        connections.address, token="", session=connections, allow_redirects=False, adapter=AsyncAdapter
    )


def check_address(address: str) -> str:
    """The address without a slash at its end.

    Raises ConfigError if it is no address, or has credentials, a query or a fragment.
    """
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in address or "?" in address or "#" in address:
        raise ConfigError("VAULT_ADDR: not an http or https address without credentials.")
    return address.rstrip("/")


def check_token(token: str, address: str = "") -> None:
    """Raise VaultDeniedError, as Vault would, for a token that an HTTP header cannot contain."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        url = f"{address}/v1/auth/token/lookup-self"
        raise _refusal("get", HTTPStatus.FORBIDDEN, url, {"errors": ["permission denied"]})


def check_path(path: str) -> str:
    """Return a Vault path that is used literally. Raises VaultRefusedError if it cannot be, or is not Unicode text.

    hvac and its HTTP library follow `..` and `.`, cut at `?` and `#`, and decode `%`, and would use another path.
    """
    special = any(mark in path for mark in ("..", "?", "#", "%"))
    if special or "." in path.split("/") or not path.strip("/") or not path.replace(" ", "").isprintable():
        raise VaultRefusedError("The Vault path is malformed.")
    return path


def error_text(error: VaultError) -> str:
    """The error as Vault's own client prints it, in several lines; only the sentence if Vault did not answer.

    It shows only the path of the URL, so that callers do not learn at which address the services reach Vault.
    """
    if not error.code:
        return error.sentence
    lines = ["Error making API request.", "", f"URL: {error.method} {urlsplit(error.url).path}"]
    lines += [f"Code: {error.code}. Errors:", "", *(f"* {line}" for line in error.errors)]
    return "\n".join(lines)


def _json_object(text: bytes) -> dict[str, Any] | None:
    """The body, {} if it is empty, None if it is anything but a JSON object."""
    try:
        body = json.loads(text) if text else {}
    except (ValueError, RecursionError):  # the latter on too many levels
        return None
    return body if isinstance(body, dict) else None


def _is_of_vault(status: int, body: dict[str, Any] | None) -> bool:
    """Whether Vault may have said it.

    A proxy whose Vault is away says 200, 400, 403 or 404, too: then nobody is known, nothing is wrong or missing.
    """
    says_why = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _OF_PROXIES
    if body is None:
        return status >= HTTPStatus.MULTIPLE_CHOICES and not says_why
    if not all(isinstance(body.get(name), shape) for name, shape in _SHAPES.items()):
        return False
    if says_why:
        return bool(body.keys() & {"errors", "data"})
    return status >= HTTPStatus.NO_CONTENT or bool(body.keys() & {"data", "auth", "sealed"})


def _refusal(method: str, status: int, url: str, body: dict[str, Any]) -> VaultError:
    """Vault's own messages are kept: they name paths and errors, never the values that were sent."""
    errors, warnings = _words(body.get("errors")), _words(body.get("warnings"))
    client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    fallback = VaultRefusedError if client_error else VaultUnavailableError
    shape = _BY_STATUS.get(status, fallback)
    words = f": {'; '.join(errors)}" if errors else ""
    error = shape(f"{(shape.__doc__ or '').rstrip('.')} ({method.upper()} {urlsplit(url).path}, code {status}{words}).")
    error.method, error.url, error.code = method.upper(), url, status
    error.errors, error.warnings = errors, warnings
    return error


def _words(texts: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(" ".join(str(text).split()) for text in texts or ())
