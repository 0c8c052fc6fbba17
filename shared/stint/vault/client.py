"""The requests that Stint makes to Vault."""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import hvac

from stint.core.errors import (
    ConfigError,
    UndecodableError,
    VaultDeniedError,
    VaultError,
    VaultNotFoundError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.vault.hvac_adapter import MappingAdapter, check_address, check_path, check_token, new_session

T = TypeVar("T")

THREADS: Final = 32
"""Calls at a time, each with its own thread and connection."""
_TURNS: Final = 3
"""Time-outs that a call may take in total, because it may first have to wait for calls that hang."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token belongs to.

    Attributes:
        display_name: Vault's name for the login that created the token.
        num_uses: remaining uses, 0 for no limit.
        ttl: remaining seconds, 0 for a token that does not expire.
        policies: those of the token and of its identity.
        entity_id: id of the identity behind the login, the same for all its tokens; "" if there is none.
        accessor: identifies the token but cannot be used as one; "" for batch tokens.
    """

    display_name: str
    num_uses: int
    ttl: float
    policies: tuple[str, ...]
    entity_id: str = ""
    accessor: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class WrapInfo:
    """The path that created a wrapping token, and the time (UTC) until which it can be unwrapped."""

    creation_path: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """A token from a login. `ttl` is in seconds, 0 if it does not expire."""

    token: str = field(repr=False)
    ttl: float


@dataclass(frozen=True, slots=True)
class SecretData:
    """The secret at a path. `data` is None if Vault returned only warnings."""

    data: Mapping[str, Any] | None = field(repr=False)
    warnings: tuple[str, ...] = ()


class Vault:
    """A Vault or OpenBao server. It has no token of its own: every method takes the token that it uses ("" = none).

    The calls share only a pool of connections and a pool of threads, so that name look-ups and content are not blocked
    while Vault hangs. Redirects are not followed, because they would disclose the token.

    All methods raise the errors of `call`. After a `VaultUnavailableError` from `unwrap_secret_id` or `login` it is not
    known whether the token or secret id was spent.
    """

    def __init__(self, address: str, *, cacert: str = "", timeout: float = 10.0, threads: int = THREADS) -> None:
        """`threads`: calls at a time. Two objects for one server share nothing."""
        self.address = check_address(address)
        if cacert and not Path(cacert).exists():
            raise ConfigError(f"VAULT_CACERT: {cacert} does not exist.")
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="vault")
        self._session = new_session(cacert, threads)

    async def call(self, token: str, request: Callable[[Any], T]) -> T:
        """Run `request(hvac client)` in a thread. JSON bodies are returned as dicts, an empty body as {}.

        Raises:
            VaultUnavailableError: no connection, time-out, sealed, 429, a redirect, or a server error.
            VaultDeniedError: 403, or a token that Vault cannot have issued.
            VaultNotFoundError: 404; its `warnings` may contain details.
            VaultRefusedError: 400 and every other client error.
        """
        check_token(token, self.address)
        calling = asyncio.get_running_loop().run_in_executor(self._threads, lambda: request(self._client(token)))
        try:
            async with asyncio.timeout(_TURNS * self._timeout):
                return await calling
        except TimeoutError:  # a call that still waits for a thread is withdrawn
            raise VaultUnavailableError(
                f"Vault at {self.address} is not reachable (too many calls are waiting)."
            ) from None

    def _client(self, token: str) -> Any:
        return hvac.Client(  # noqa: TID251 - the one factory; its token is always explicit
            self.address,
            token=token,
            session=self._session,
            verify=self._session.verify,
            timeout=self._timeout,
            allow_redirects=False,
            adapter=MappingAdapter,
        )

    async def health(self) -> bool:
        """Whether the server is reachable, initialised and unsealed. Never raises a Vault error."""
        try:
            status = await self.call("", lambda client: client.sys.read_seal_status())
        except VaultError:
            return False
        return bool(status.get("initialized")) and status.get("sealed") is False

    async def lookup_self(self, token: str) -> Caller:
        """The owner of a token. Takes one of its uses.

        Raises:
            VaultDeniedError: unknown, expired or revoked. `error_text` gives the text of Vault's own client.
        """
        answer = await self.call(token, lambda client: client.auth.token.lookup_self())
        data = data_of(answer)
        return Caller(
            display_name=str(data.get("display_name", "")),
            num_uses=int(data.get("num_uses") or 0),
            ttl=float(data.get("ttl") or 0),
            policies=(*(data.get("policies") or ()), *(data.get("identity_policies") or ())),
            entity_id=str(data.get("entity_id") or ""),
            accessor=str(data.get("accessor") or ""),
        )

    async def capabilities(self, token: str, of: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What the token `of` may do at these paths, by path. Takes no use of `of`. Paths are literal.

        Raises:
            VaultRefusedError: no such token.
        """
        check_token(of)
        if not of:  # hvac would ask about `token` itself
            raise VaultDeniedError("Vault denied permission: no token.")
        asked = list(paths)
        answer = await self.call(token, lambda client: client.sys.get_capabilities(paths=asked, token=of))
        data = data_of(answer)
        return {path: frozenset(data.get(path) or ()) for path in asked}

    async def read_cubbyhole(self, token: str, path: str) -> Mapping[str, Any] | None:
        """The content of a path in the token's cubbyhole (`cubbyhole/job`), None if there is none. Takes one use."""
        found = await self.read(token, path)
        return found.data if found else None

    async def wrap_info(self, wrapping_token: str) -> WrapInfo:
        """The origin of a wrapping token. Spends nothing and needs no permission.

        Raises:
            VaultRefusedError, VaultDeniedError: spent, expired, or not a wrapping token.
        """
        body = {"token": wrapping_token}
        answer = await self.call("", lambda client: client.adapter.post("/v1/sys/wrapping/lookup", json=body))
        data = data_of(answer)
        try:
            created = datetime.fromisoformat(data["creation_time"]).astimezone(UTC)
            lifetime = timedelta(seconds=float(data["creation_ttl"]))
            return WrapInfo(creation_path=str(data["creation_path"]), expires_at=created + lifetime)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise VaultRefusedError("Vault's answer about the wrapping token is incomplete.") from None

    async def unwrap_secret_id(self, wrapping_token: str) -> str:
        """Spend a wrapping token to get the secret id in it.

        Raises:
            VaultRefusedError, VaultDeniedError: spent, expired, not a wrapping token, or it wraps something else.
        """
        answer = await self.call(wrapping_token, lambda client: client.sys.unwrap())
        secret_id = data_of(answer).get("secret_id")
        if not isinstance(secret_id, str):
            raise VaultRefusedError("The wrapping token does not wrap a secret id.")
        return secret_id

    async def login(self, role_id: str, secret_id: str) -> Login:
        """Log in by AppRole.

        Raises:
            VaultRefusedError: wrong or spent.
        """
        answer = await self.call(
            "", lambda client: client.auth.approle.login(role_id=role_id, secret_id=secret_id, use_token=False)
        )
        auth = answer.get("auth") or {}
        if not isinstance(auth.get("client_token"), str):
            raise VaultRefusedError("The login returned no token.")
        return Login(token=auth["client_token"], ttl=float(auth.get("lease_duration") or 0))

    async def encrypt(self, token: str, key: str, plaintext: bytes, *, associated_data: bytes = b"") -> str:
        """Encrypt with a transit key. The ciphertext can be decrypted only with the same associated data."""
        fields = {"plaintext": _base64(plaintext), "associated_data": _base64(associated_data) or None}
        answer = await self.call(
            token, lambda client: client.secrets.transit.encrypt_data(name=check_path(key), **fields)
        )
        ciphertext = data_of(answer).get("ciphertext")
        if not isinstance(ciphertext, str):
            raise VaultRefusedError("Vault returned no ciphertext.")
        return ciphertext

    async def decrypt(self, token: str, key: str, ciphertext: str, *, associated_data: bytes = b"") -> bytes:
        """Decrypt a ciphertext of `encrypt`.

        Raises:
            VaultRefusedError: not a ciphertext, changed, of another key, or other associated data.
            UndecodableError: Vault's answer is not base64.
        """
        fields = {"ciphertext": ciphertext, "associated_data": _base64(associated_data) or None}
        answer = await self.call(
            token, lambda client: client.secrets.transit.decrypt_data(name=check_path(key), **fields)
        )
        try:
            return base64.b64decode(data_of(answer)["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise UndecodableError("Vault did not return the plaintext in base64.") from None

    async def read(self, token: str, path: str) -> SecretData | None:
        """Read a path; None if there is nothing and Vault returns no warnings. Takes one use.

        Raises:
            VaultRefusedError: the path is malformed (see `check_path`); nothing was requested.
        """
        checked = check_path(path)
        try:
            answer = await self.call(token, lambda client: client.adapter.get(f"/v1/{checked}"))
        except VaultNotFoundError as error:
            return SecretData(None, error.warnings) if error.warnings else None
        data = answer.get("data")
        return SecretData(data if isinstance(data, dict) else None, tuple(answer.get("warnings") or ()))

    async def revoke_self(self, token: str) -> None:
        """Revoke a token. Safe to repeat, also for a token that is spent, expired or already revoked."""
        try:
            await self.call(token, lambda client: client.auth.token.revoke_self())
        except VaultDeniedError:
            return


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `data` of an answer; empty if it has none."""
    data = answer.get("data")
    return data if isinstance(data, dict) else {}
