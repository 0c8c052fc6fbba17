"""HTTP connections to one Vault server, on the event loop."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

import certifi
from hvac.constants.client import VAULT_CLIENT_CERT, VAULT_CLIENT_KEY

from stint.core.errors import ConfigError, VaultUnavailableError
from stint.vault.http import Answer, Connection, LostError, NotHttpError

KEEP: Final = 15.0
"""Seconds for which an idle connection is kept: less than any server or proxy would, so that none closes it in use."""
_TURNS: Final = 3
"""Time-outs that a call may take in total, because it may first have to wait for calls that hang."""
_SAFE: Final = "/-._~!$&'()*+,;=:@%"
"""Characters of a path that are sent as they are. hvac has already encoded some, and thus written `%`."""
_PORTS: Final = {"http": 80, "https": 443}


class ConnectionLostError(VaultUnavailableError):
    """Vault closed the connection and did not answer. It may have carried out the request."""


class Request(NamedTuple):
    """A request as hvac made it, with the whole URL. `ok` tells hvac that there is no error to raise yet."""

    method: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, Any] | None
    body: Any
    ok: bool = True


class Connections:
    """Connections that are kept within `async with`; otherwise each request has a connection of its own.

    A request contains only what it was given: no cookies, and neither `.netrc` nor proxies from the environment.
    Redirects are not followed, because they would disclose the token. Nothing is ever sent twice.

    In place of the session of requests that hvac expects, this one only takes its requests down; see `send`.
    """

    verify = cert = proxies = None
    """What hvac asks such a session for."""

    def __init__(self, address: str, *, cacert: str, timeout: float, limit: int) -> None:
        """`limit`: connections at a time; further requests wait for one. `timeout`: seconds for each step.

        Raises:
            ConfigError: the CA bundle or the client certificate cannot be read.
        """
        self.address = address
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._authority = parts.netloc
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._ssl = _context(cacert or certifi.where()) if parts.scheme == "https" else None
        self._timeout = timeout
        self._places = asyncio.Semaphore(limit)
        self._keeping = False
        self._idle: deque[Connection] = deque()

    async def __aenter__(self) -> Self:
        self._keeping = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keeping = False
        while self._idle:
            self._idle.pop().close()

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
        return Request(method, url, headers, params, json)

    async def send(self, request: Request) -> Answer:
        """Send a request, and read the whole answer.

        Raises:
            ConnectionLostError: the connection was lost before Vault answered.
            VaultUnavailableError: no connection, a time-out, or an answer that is not HTTP.
        """
        encoded = self._encoded(request)
        # Raised outside the except block: the driver's error holds frames with the request's token and body.
        failure: VaultUnavailableError
        try:
            end = asyncio.get_running_loop().time() + _TURNS * self._timeout
            async with self._place(end):
                connection = self._kept() or await self._connect()
                answer = await connection.exchange(encoded, silence=self._timeout, end=end)
                self._put_aside(connection)
                return answer
        except LostError:
            failure = ConnectionLostError(f"Vault at {self.address} closed the connection and did not answer.")
        except (NotHttpError, OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            failure = VaultUnavailableError(f"Vault at {self.address} is not reachable ({type(error).__name__}).")
        raise failure

    def _encoded(self, request: Request) -> bytes:
        """Head and body."""
        target = quote(request.url.removeprefix(self._origin), safe=_SAFE)
        query = f"?{urlencode(request.params)}" if request.params else ""
        body = b"" if request.body is None else json.dumps(request.body).encode()
        headers = {"Host": self._authority, **request.headers}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if body or request.method.upper() not in {"GET", "HEAD"}:
            headers["Content-Length"] = str(len(body))
        lines = [f"{request.method.upper()} {target}{query} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    @asynccontextmanager
    async def _place(self, end: float) -> AsyncIterator[None]:
        """One of the places for calls. Raises TimeoutError if none is free until `end`."""
        if self._places.locked():
            async with asyncio.timeout_at(end):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout):
            return (await loop.create_connection(Connection, self._host, self._port, ssl=self._ssl))[1]

    def _kept(self) -> Connection | None:
        """An idle connection, the one that was used last."""
        self._forget_old()
        return self._idle.pop() if self._idle else None

    def _put_aside(self, connection: Connection) -> None:
        if not self._keeping:
            connection.close()
        elif connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)

    def _forget_old(self) -> None:
        """Forget connections that have been idle for long, and those that Vault has closed."""
        oldest = asyncio.get_running_loop().time() - KEEP
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].reusable):
            self._idle.popleft().close()
        while self._idle and not self._idle[-1].reusable:
            self._idle.pop()


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
