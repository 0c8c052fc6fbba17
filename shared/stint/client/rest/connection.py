"""The HTTP client with which the API is asked, and what its answers mean."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.request import getproxies

import httpx

from stint.client.errors import ApiError, ApiRefusedError, ApiUnreachableError
from stint.client.options import Endpoints
from stint.core.codec import decode
from stint.core.errors import ConfigError, UndecodableError

TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
"""Seconds. The API sends a ping on a live stream every 10 s, so a stream that is silent for a minute is dead."""
_HIGHEST_PORT: Final = 65535
_NO_PROXY: Final = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""A proxy from the environment cannot reach this machine's own loopback."""

_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,  # it leads to no server
    httpx.UnsupportedProtocol,
)

_OF_JOB: Final = re.compile(r"/v1/api/job/(?:kill/)?([0-9a-f]{24})(?:/|$)")

_OWN_ERRORS: Final = (httpx.codes.INTERNAL_SERVER_ERROR, httpx.codes.SERVICE_UNAVAILABLE)

_OWN_TOKEN: Final = "/v1/auth/token/lookup-self"
"""The API answers what Vault said, as GoStint did. Vault says this only of the caller's own token."""


def http_client(where: Endpoints) -> httpx.AsyncClient:
    """A client that verifies certificates, and follows no redirects, which would disclose the token.

    Raises what `Client.connect` does.
    """
    if any(not "!" <= char <= "~" for char in where.token):
        raise ConfigError("STINT_TOKEN or VAULT_TOKEN: a token contains no white space and no special characters.")
    try:
        address = httpx.URL(where.url)
    except httpx.InvalidURL:
        raise ConfigError("STINT_URL: not an address.") from None
    if address.scheme not in {"http", "https"} or (address.port or 0) > _HIGHEST_PORT:
        raise ConfigError("STINT_URL: not an http or https address.")
    try:
        return httpx.AsyncClient(
            base_url=address,
            verify=_verify(where),
            headers={"X-Auth-Token": where.token},
            timeout=TIMEOUT,
            mounts=_NO_PROXY,
        )
    except (OSError, ssl.SSLError):
        raise ConfigError(f"STINT_CACERT: {where.cacert} is not a readable CA bundle.") from None
    except (httpx.InvalidURL, ValueError, ImportError):  # the latter without a package for SOCKS
        sentence = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY: one is not the address of an HTTP proxy; no other can be used."
        raise ConfigError(sentence) from None


def _verify(where: Endpoints) -> ssl.SSLContext | bool:
    """How certificates are verified. Without TLS no CA is loaded, which would take 25 ms."""
    if where.cacert:
        return ssl.create_default_context(cafile=where.cacert)
    tls = any(url.lower().startswith("https:") for url in (where.url, *getproxies().values()))
    return True if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def parsed(text: bytes) -> dict[str, Any] | None:
    """A JSON object, None if the text is anything else."""
    try:
        return decode(text, dict)
    except UndecodableError:
        return None


def is_ours(answer: httpx.Response) -> bool:
    """Whether the answer is what was asked for: no error, and no page of a proxy to sign in, which can be a 200."""
    return answer.is_success and not answer.headers.get("content-type", "").startswith("text/html")


def body_of(answer: httpx.Response) -> Mapping[str, Any]:
    """The JSON object that was asked for. Raises ApiRefusedError if it is an error, or no object."""
    body = parsed(answer.content)
    if not answer.is_success or body is None:
        raise refusal(answer)
    return body


def refusal(answer: httpx.Response) -> ApiRefusedError:
    """The error that an answer stands for."""
    body = parsed(answer.content) or {}
    if body and answer.status_code == httpx.codes.NOT_FOUND and (of_job := _OF_JOB.search(answer.request.url.path)):
        return ApiRefusedError(f"Stint has no job {of_job[1]}.", answer.status_code)
    error, job_id = str(body.get("error") or ""), str(body.get("_id", ""))
    if answer.status_code == httpx.codes.FORBIDDEN and _OWN_TOKEN in error:
        sentence = "Vault does not accept the token: it has ended, was revoked, or is another Vault's."
        return ApiRefusedError(sentence, answer.status_code)
    # The error of a proxy does not say what has become of the request behind it.
    of_stint = answer.status_code in _OWN_ERRORS and "error" in body
    doubtful = answer.is_server_error and (bool(job_id) or not of_stint)
    sentence = f"Stint refused ({answer.status_code}): {error}" if error else _foreign(answer)
    sentence = f"{sentence}{f' (job {job_id})' if job_id else ''}"
    return ApiRefusedError(sentence, answer.status_code, doubtful=doubtful, job_id=job_id)


def _foreign(answer: httpx.Response) -> str:
    """That an answer is not Stint's, but of a proxy or of another server."""
    server = answer.request.url.netloc.decode()
    if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return (
            f"{server} takes no request of this size (HTTP status 413): a proxy on the way to Stint has its own limit."
        )
    return (
        f"{server} does not answer as Stint does (HTTP status {answer.status_code}): "
        "STINT_URL is another server's, or a proxy on the way there answers in Stint's place."
    )


def in_doubt(error: ApiError) -> ApiError:
    """Explain the last error of a submission, of which this attempt or an earlier one may have been accepted.

    An earlier one, whose answer was lost, may also have caused a clear refusal by spending the cubbyhole.
    """
    refused = isinstance(error, ApiRefusedError) and not error.doubtful
    earlier = "\nAn earlier attempt may have been accepted, and be the cause." if refused else ""
    error.args = (f"{error.sentence}{earlier}\nIt is not known whether the job was submitted.",)
    error.doubtful = True
    return error


def unreachable(http: httpx.AsyncClient, error: httpx.HTTPError) -> ApiUnreachableError:
    """The error if there was no answer: `doubtful` if the request may have arrived."""
    where = http.base_url.copy_with(userinfo=b"", query=None, fragment=None)
    why = ": ".join(filter(None, (type(error).__name__, str(error).rstrip("."))))  # a time-out has no text
    return ApiUnreachableError(
        f"Stint at {where} is not reachable ({why}).",
        doubtful=not isinstance(error, _NOT_SENT),
    )
