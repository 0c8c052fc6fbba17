"""The connection to a Docker engine, and its errors as Stint's."""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from ssl import VERIFY_X509_STRICT, SSLContext, create_default_context
from typing import Final

import aiohttp
import structlog
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stint.core.errors import ConfigError, EngineError, EngineUnavailableError

log = structlog.get_logger()

SHORT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)
"""For calls that take up to a second (a start: 0.13 s), with a margin for a loaded machine."""
ENDLESS: Final = aiohttp.ClientTimeout(sock_connect=10)
STEP: Final = 64 * 1024  # bytes read or sent at a time
LONGEST_REFUSAL: Final = 256 * 1024
"""Bytes of a refusal from which on it is not read: it can hold what a registry said, of any length."""

KEEP_ALIVE: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""Seconds of silence, seconds between probes, and their number: a peer that answers none is gone."""
UNHEARD: Final = 30_000  # milliseconds after which a peer that does not acknowledge what was sent is gone, too

_NO_CONNECTION: Final = 900  # aiodocker's own status
_UNAVAILABLE: Final = frozenset(
    {_NO_CONNECTION, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
"""500 is not among them: Docker answers it to many faults of a job, such as a working directory that is a file, or
content that puts a file where a folder is."""

_NONSENSE: Final = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
"""What aiodocker and Stint raise at an answer that is not Docker's, such as a proxy's page."""


def tls_context(host: str, *, cert_path: str = "", verify: bool = False) -> SSLContext | None:
    """TLS to an engine on the network, if one of the two is given. Raises ConfigError if a file is missing or unusable.

    `cert_path` is a folder as Docker's client has it, "" is `~/.docker`: with `ca.pem`, and perhaps `cert.pem` and
    `key.pem`. Unlike that client, this one always verifies the engine: `ca.pem` must have signed its certificate, for
    the address in DOCKER_HOST, which is `host`.
    """
    if not host.startswith(("tcp://", "https://")) or not (cert_path or verify):
        return None
    folder = Path(cert_path or "~/.docker")
    try:
        folder = folder.expanduser()
        authority, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        context = create_default_context(cafile=authority)
        # Python 3.13 sets it, and certificates made by Docker's own instructions do not pass it.
        context.verify_flags &= ~VERIFY_X509_STRICT
        if certificate.exists() or key.exists():
            context.load_cert_chain(certificate, key, password=lambda: "")  # or it would ask on the terminal
    except (OSError, RuntimeError) as error:  # an SSLError is an OSError; a missing home folder is a RuntimeError
        reason = str(error).removesuffix(".")
        raise ConfigError(f"DOCKER_CERT_PATH: no usable ca.pem, cert.pem and key.pem in {folder}: {reason}.") from None
    return context


class DockerClient(Docker):
    """aiodocker's client on connections without a limit: each running job holds two, and aiohttp's limit is 100.

    It must be made on a running loop.
    """

    def __init__(self, host: str, ssl_context: SSLContext | None = None, api_version: str = "auto") -> None:
        connector: aiohttp.BaseConnector
        if host.startswith("unix://"):
            connector = aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0)
            url = "unix://localhost"
        else:
            connector = aiohttp.TCPConnector(ssl=ssl_context or True, limit=0, socket_factory=_kept_alive)
            url = host.replace("tcp://", "https://" if ssl_context else "http://", 1).rstrip("/")
        session = aiohttp.ClientSession(connector=connector, timeout=SHORT, response_class=_Response)
        super().__init__(url=url, connector=connector, session=session, timeout=SHORT, api_version=api_version)

    async def close(self) -> None:
        """Close the connections too, which aiodocker leaves to whoever made the session."""
        await super().close()
        await self.session.close()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        limits: aiohttp.ClientTimeout = SHORT,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The raw body of an answer. aiodocker would decode it, keep it whole, or take a broken one for complete.

        Raises aiodocker.DockerError if the engine refuses, aiohttp.ClientError if the connection breaks.
        """
        sent = None if data is None else _slices(data)
        query = self._query(path, method, params=dict(parameters), data=sent, headers=headers, timeout=limits)
        async with query as response:
            with closing(response):
                yield response.content


class _Response(aiohttp.ClientResponse):
    async def read(self) -> bytes:
        """The whole body. Raises aiodocker.DockerError instead of reading a refusal that is too long."""
        if self.status < HTTPStatus.BAD_REQUEST:
            return await super().read()
        with closing(self):
            try:
                await self.content.readexactly(LONGEST_REFUSAL)
            except asyncio.IncompleteReadError as error:
                return error.partial
        raise DockerError(self.status, f"The container engine's refusal has {LONGEST_REFUSAL >> 10} KiB or more.")


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), STEP):
        yield data[start : start + STEP]


def _kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD)
    return connection


@contextmanager
def engine_errors(*, done: Collection[int] = (), missing: type[EngineError] = EngineError) -> Iterator[None]:
    """Map the errors of aiodocker and its connection. `done` are statuses that need nothing, `missing` is for 404.

    Raises:
        EngineUnavailableError: no connection, a connection that broke, a time-out, or a gateway's error.
        EngineError: any other refusal, with the engine's words; or an answer that cannot be read.
    """
    try:
        yield
    except DockerError as error:
        if error.status not in done:
            raise _refusal(error, missing) from None
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise EngineUnavailableError(
            f"The connection to the container engine failed: {type(error).__name__}."
        ) from None
    except _NONSENSE as error:
        log.warning("the container engine's answer cannot be read", exc_info=error)  # or it is a fault of Stint's
        raise EngineError(f"The container engine's answer cannot be read ({type(error).__name__}).") from None


def _refusal(error: DockerError, missing: type[EngineError]) -> EngineError:
    if error.status in _UNAVAILABLE:
        return EngineUnavailableError(f"The container engine is not available: {error.message}")
    if error.status == HTTPStatus.NOT_FOUND:
        return missing(error.message)
    if error.status == HTTPStatus.FORBIDDEN:  # Docker's plugins for authorization answer it, and proxies
        return EngineError(f"The container engine, or a proxy before it, forbids this runner a call: {error.message}")
    return EngineError(error.message)
