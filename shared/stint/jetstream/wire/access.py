"""Access to NATS: addresses, certificates and credentials, in the form that nats-py needs."""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import ParseResult, urlsplit

import nats.errors
from nats.aio.client import Client, RawCredentials, Srv
from nats.aio.transport import TcpTransport

from stint.core.errors import ConfigError, StintError
from stint.core.names.subjects import publisher_inbox
from stint.jetstream.wire.protocol import headers_in
from stint.process.settings import Settings

_SECURE: Final = frozenset({"tls", "wss"})
_WEB_SOCKETS: Final = frozenset({"ws", "wss"})
_SCHEMES: Final = frozenset({"nats"}) | _SECURE | _WEB_SOCKETS
_CREDS: Final = re.compile(
    r"-BEGIN NATS USER JWT-+\s+\S+\s+-+END NATS USER JWT-.*-BEGIN USER NKEY SEED-+\s+(SU[A-Z2-7]{56})\s+-+END",
    re.DOTALL,
)
_SEED: Final = re.compile(r"SU[A-Z2-7]{56}")
LOGIN_ENDED: Final = "user authentication expired"
"""What a server says, in nats-py's lower case, when it closes a connection for that."""
SILENT: Final = 2
"""Pings in a row, after an unanswered one, between which a server has sent nothing: then it is left."""


class PlaintextError(StintError, nats.errors.Error):
    """TLS is asked for, and the server offers none."""


class AnyBytesClient(Client):
    """A client that goes on whatever bytes others use for subjects and headers.

    A server takes and stores them all. nats-py stops reading, until its pings go unanswered, at the first message whose
    subject, reply or status is no text, or whose headers are cut off: and a consumer delivers it again.
    """

    left_for: Exception | None = None
    """Why the last connection was left: nats-py tells nobody."""
    login_ended = False
    """Whether it was left because the login by password had ended, as one with a Vault token does."""

    async def _connect_to_server(self, s: Srv) -> None:
        """Try each address of the server's name in turn: nats-py tries only the first, maybe a lost machine's."""
        within, failure = self.options["connect_timeout"], OSError("The name has no address.")
        for uri in await asyncio.wait_for(_addresses(s.uri), within):
            attempt = replace(s, uri=uri)
            try:
                await super()._connect_to_server(attempt)
            except OSError as error:
                failure = error
            else:
                s.last_attempt = attempt.last_attempt  # nats-py waits before it tries this server again
                return
        raise failure

    async def _select_next_server(self) -> None:
        """Try the server that was left, or that just failed, last: a frozen one takes 2 s, and nats-py tries any."""
        self._server_pool.sort(key=lambda server: server is self._current_server)
        await super()._select_next_server()

    async def _process_connect_init(self) -> None:
        """A server that closes the connection without a word, as one that stops, has not taken it: nats-py goes on."""
        await super()._process_connect_init()
        if self.is_connecting:
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if task:
                    task.cancel()
            self.abort()
            raise nats.errors.UnexpectedEOF

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        """What is no text gets U+FFFD, which no subject of ours has."""
        return super()._build_message(sid, _as_text(subject), _as_text(reply), data, headers)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """Those that a server adds stand on lines of their own, behind those of the publisher."""
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return headers_in(headers.partition(b"\r\n")[2])

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As nats-py reads them, which calls two functions for each character of a name."""
        return headers_in(raw)

    async def _process_err(self, err_msg: str) -> None:
        """Log in again where a login by password has ended, as NATS' clients for Go and Node do: nats-py gives up."""
        self.login_ended = LOGIN_ENDED in err_msg and self.options["password"] is not None
        if self.login_ended:
            self.abort()
            await super()._process_op_err(nats.errors.AuthorizationError())
        else:
            await super()._process_err(err_msg)

    async def _process_op_err(self, e: Exception) -> None:
        """Leave a server that is lost, and with it what it has not taken: nats-py would wait until it does."""
        if self.is_connected:
            self.left_for = e
            self.abort()
        await super()._process_op_err(e)

    async def _ping_interval(self) -> None:
        """Ping as nats-py does, but leave a server sooner that sends no part of a message either, as on a slow link."""
        silent, heard = 0, (0, 0)
        while True:
            await asyncio.sleep(self.options["ping_interval"])
            if not self.is_connected:
                continue
            before, heard = heard, (self.stats["in_msgs"], len(self._ps.buf))
            silent = silent + 1 if self._pings_outstanding and heard == before else 0
            self._pings_outstanding += 1
            if silent == SILENT or self._pings_outstanding > self.options["max_outstanding_pings"]:
                await self._process_op_err(nats.errors.StaleConnectionError())
                return
            await self._send_ping()

    def abort(self) -> None:
        """Drop the connection, and what was not sent."""
        if isinstance(self._transport, TcpTransport) and (writer := self._transport._io_writer):  # noqa: SLF001 - nats-py has no public way
            writer.transport.abort()


class TlsClient(AnyBytesClient):
    """A client that connects with TLS or not at all, like NATS clients in other languages.

    nats-py itself uses TLS only if the server asks for it. A server that does not ask, or an attacker in between
    who removes that from the greeting, would get the credentials unencrypted.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Require TLS when the greeting arrives, before anything is sent."""
        scheme = self._current_server.uri.scheme if self._current_server else ""
        if initial_connection and scheme != "wss":  # which is encrypted already
            if scheme == "ws" or not (info.get("tls_required") or info.get("tls_available")):
                raise PlaintextError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)
        for server in self._server_pool:
            if server.tls_name and self._host_is_ip(server.tls_name) and self._current_server:
                # nats-py verifies the servers that this one names by this one's host. An address is no other server's.
                server.tls_name = self._current_server.tls_name


@dataclass(frozen=True, kw_only=True)
class Access:
    """Addresses and credentials of NATS. Raises ConfigError, which names the setting that is wrong.

    If one address or a certificate requires TLS, all servers must use it.
    """

    url: str = field(repr=False)  # servers, comma-separated. Credentials can be part of it
    cacert: str = ""  # a CA bundle that the servers' certificates must come from. Default: the system's
    cert: str = ""
    key: str = ""
    creds: str = field(default="", repr=False)  # the text of a credentials file: a user's JWT and its seed
    nkey: str = field(default="", repr=False)  # a user's seed
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    inbox: str = ""  # the prefix of the subjects on which answers arrive; "" for NATS' own

    def __post_init__(self) -> None:
        schemes = self._schemes
        if schemes & _WEB_SOCKETS and schemes - _WEB_SOCKETS:
            raise ConfigError("STINT_NATS_URL, NATS_URL: WebSocket addresses cannot be mixed with others.")
        if self.key and not self.cert:
            raise ConfigError("STINT_NATS_KEY needs STINT_NATS_CERT.")
        # With any other text nats-py would search for its end for ever.
        if self.creds and not _CREDS.search(self.creds):
            raise ConfigError("STINT_NATS_CREDS: not a NATS credentials file.")
        if self.nkey and not _SEED.fullmatch(self.nkey):
            raise ConfigError("STINT_NATS_NKEY: not the seed of a NATS user.")

    @classmethod
    def of(cls, settings: Settings) -> "Access":
        return cls(
            url=settings.nats_url,
            cacert=settings.nats_cacert,
            cert=settings.nats_cert,
            key=settings.nats_key,
            creds=settings.nats_creds.get_secret_value(),
            nkey=settings.nats_nkey.get_secret_value(),
            user=settings.nats_user,
            password=settings.nats_password.get_secret_value(),
            inbox=settings.nats_inbox_prefix,
        )

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.url.split(",")]

    @property
    def seed(self) -> str:
        """The user's seed, of its own or in the credentials file; "" without one."""
        found = _CREDS.search(self.creds)
        return self.nkey or (found[1] if found else "")

    @property
    def _schemes(self) -> set[str]:
        return {_scheme(server) for server in self.servers}

    @property
    def secure(self) -> bool:
        return bool(self._schemes & _SECURE or self.cacert or self.cert)

    def client(self) -> AnyBytesClient:
        return TlsClient() if self.secure else AnyBytesClient()

    def options(self) -> Mapping[str, Any]:
        """Arguments of `Client.connect`."""
        options: dict[str, Any] = {}
        if self.secure:
            options["tls"] = self._context()
        if self.creds:
            options["user_credentials"] = RawCredentials(self.creds)
        if self.nkey:
            options["nkeys_seed_str"] = self.nkey
        if self.password:
            # With a Vault token as the password answers arrive in inboxes that only its owner knows.
            options |= {"user": self.user, "password": self.password, "inbox_prefix": publisher_inbox(self.password)}
        if self.inbox:
            options["inbox_prefix"] = self.inbox
        return options

    def _context(self) -> ssl.SSLContext:
        logging.getLogger("asyncio").addFilter(_tells_something)
        try:
            context = ssl.create_default_context(cafile=self.cacert or None)
        except (OSError, ValueError):  # errors of TLS are OSErrors; a path with a NUL byte is the other one
            raise ConfigError("STINT_NATS_CACERT: not a readable CA bundle.") from None
        try:
            if self.cert:  # with any password OpenSSL does not ask for that of an encrypted key on the terminal
                context.load_cert_chain(self.cert, self.key or None, password="")
        except (OSError, ValueError):
            raise ConfigError("STINT_NATS_CERT, STINT_NATS_KEY: not a readable certificate and its key.") from None
        return context


def _tells_something(record: logging.LogRecord) -> bool:
    """Leaves out what asyncio warns of, by nats-py's use of it, whenever a server ends a connection with TLS."""
    return not str(record.msg).startswith("returning true from eof_received()")


async def _addresses(server: ParseResult) -> list[ParseResult]:
    """The server by each address of its name. With WebSockets, whose client does the same, only by its name."""
    if server.scheme in _WEB_SOCKETS:
        return [server]
    found = await asyncio.get_running_loop().getaddrinfo(server.hostname, server.port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return [server._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{server.port}") for host in hosts]


def _as_text(subject: bytes) -> bytes:
    return subject.decode(errors="replace").encode()


def _scheme(server: str) -> str:
    """The scheme of a valid address, `nats` if it has none."""
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        if parts.hostname and parts.port != 0 and parts.scheme in _SCHEMES:
            return parts.scheme
    except ValueError:
        pass
    raise ConfigError("STINT_NATS_URL, NATS_URL: not the address of a NATS server.")
