"""HTTP connections to one Vault server, on the event loop."""

import io
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import certifi
from hvac.constants.client import VAULT_CLIENT_CERT, VAULT_CLIENT_KEY

from stint.core.errors import ConfigError, VaultUnavailableError

KEEP: Final = 15.0  # seconds for which an idle connection is kept: less than at servers, so that none closes it in use
LARGE: Final = 256 * 1024  # bytes of a request that are sent at a time; others have their turn in between
LONGEST: Final = 80 * 1024 * 1024
"""Bytes of an answer. Vault accepts requests of 32 MiB, and what it returns of one is hardly longer; the names of a
million keys of payloads are 71 MB."""
_TURNS: Final = 3  # time-outs that a call may take in total, because it may first have to wait for calls that hang
_UNUSED: Final = ("Accept", "Accept-Encoding", "User-Agent")  # headers that aiohttp would add, and Vault ignores


class ConnectionLostError(VaultUnavailableError):
    """Vault closed the connection and did not answer. It may have carried out the request."""


class TooLongAnswerError(VaultUnavailableError):
    """Vault answers with more than `LONGEST`, which a repeat does not change."""


class Request(NamedTuple):
    """A request as hvac made it, with the whole URL. `ok` tells hvac that there is no error to raise yet."""

    method: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, Any] | None
    body: Any
    ok: bool = True


class Connections:
    """Connections that are kept from `keep` to `close`; otherwise each request has a connection of its own.

    A request contains only what it was given: no cookies, and neither `.netrc` nor proxies from the environment.
    Redirects are not followed, because they would disclose the token. Nothing is ever sent twice.

    In place of the session of requests that hvac expects, this one only takes its requests down; see `send`.
    """

    verify = cert = proxies = None  # what hvac asks such a session for

    def __init__(self, address: str, *, cacert: str, timeout: float, limit: int) -> None:
        """`limit`: connections at a time; further requests wait for one. `timeout`: seconds for each step.

        Raises:
            ConfigError: the CA bundle or the client certificate cannot be read.
        """
        self.address = address
        self._ssl = _context(cacert or certifi.where()) if address.startswith("https:") else True
        self._timeout = aiohttp.ClientTimeout(total=_TURNS * timeout, sock_connect=timeout, sock_read=timeout)
        self._limit = limit
        self._kept: aiohttp.ClientSession | None = None

    def keep(self) -> None:
        """Keep connections from now on."""
        self._kept = self._session()

    async def close(self) -> None:
        """Close them, and keep none any more."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.close()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        **_options: Any,
    ) -> Request:
        """What hvac calls to send a request: describes it."""
        kind = {} if json is None else {"Content-Type": "application/json"}
        return Request(method, url, {**headers, **kind}, params, json)

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Send a request, and read the whole answer: its status and its body.

        Raises:
            ConnectionLostError: the connection was lost before Vault answered.
            TooLongAnswerError: the answer is longer than `LONGEST`.
            VaultUnavailableError: no connection, a time-out, or an answer that is not HTTP.
        """
        if self._kept is not None:
            return await self._exchange(self._kept, request)
        async with self._session() as session:
            return await self._exchange(session, request)

    async def _exchange(self, session: aiohttp.ClientSession, request: Request) -> tuple[int, bytes]:
        # Raised outside the except block: the driver's error holds the request with its token and body. What is raised
        # is in no variable: it would hold that variable's frame.
        failure, kind = "", VaultUnavailableError
        try:
            async with session.request(
                request.method,
                request.url,
                params=request.params,
                data=_encoded(request.body),
                headers=request.headers,
                allow_redirects=False,
            ) as answer:
                if (body := await _whole(answer.content)) is not None:
                    return answer.status, body
                failure, kind = f"answers with more than {LONGEST >> 20} MiB", TooLongAnswerError
        except _LostError as error:
            _let_go(error)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            failure = f"is not reachable ({type(error).__name__})"
            _let_go(error)
        if not failure:
            raise ConnectionLostError(f"Vault at {self.address} closed the connection and did not answer.")
        raise kind(f"Vault at {self.address} {failure}.")

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=KEEP, ssl=self._ssl),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_UNUSED,
            timeout=self._timeout,
            middlewares=(_once,),
        )


async def _whole(body: aiohttp.StreamReader) -> bytes | None:
    """All of it, None if it is longer than `LONGEST`."""
    blocks, left = list[bytes](), LONGEST
    async for block in body.iter_any():
        blocks.append(block)
        left -= len(block)
        if left < 0:
            return None
    return b"".join(blocks)


def _let_go(error: BaseException | None) -> None:
    """Take the frames from an error and from those that caused it: aiohttp's frames have variables with these errors.

    All of them, and the request's body, would stay in memory until the garbage collector comes.
    """
    while error is not None:
        error.__traceback__, error = None, error.__context__


class _LostError(aiohttp.ClientError):
    """The connection was lost before an answer."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again: Vault may have carried it out, and counts the uses of a token."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise _LostError from None


def _encoded(body: Any) -> bytes | io.BytesIO | None:
    if body is None:
        return None
    text = json.dumps(body).encode()
    return text if len(text) < LARGE else io.BytesIO(text)


def _context(cacert: str) -> ssl.SSLContext:
    """Verifies a server by a bundle or folder of CAs, and shows it the client certificate that hvac knows, if any."""
    folder = Path(cacert).is_dir()
    try:
        context = ssl.create_default_context(capath=cacert) if folder else ssl.create_default_context(cafile=cacert)
    except OSError:
        raise ConfigError(f"VAULT_CACERT: {cacert} does not exist or is not a CA bundle.") from None
    if VAULT_CLIENT_CERT:
        try:
            context.load_cert_chain(VAULT_CLIENT_CERT, VAULT_CLIENT_KEY)
        except OSError:
            raise ConfigError("VAULT_CLIENT_CERT, VAULT_CLIENT_KEY: not a readable certificate and its key.") from None
    return context
