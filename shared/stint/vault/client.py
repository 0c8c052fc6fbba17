"""The requests that Stint makes to Vault."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from stint.core.errors import UndecodableError, VaultDeniedError, VaultError, VaultNotFoundError, VaultRefusedError
from stint.vault.answers import Caller, Login, SecretData, WrapInfo, data_of
from stint.vault.connections import ConnectionLostError, Connections
from stint.vault.hvac_adapter import as_token, check_address, check_path, check_token, new_client

T = TypeVar("T")

CONNECTIONS: Final = 32  # calls at a time, each on a connection of its own
HEALTH_WITHIN: Final = 5.0  # seconds for an answer: who asks for readiness does not wait for a Vault that hangs


class Vault:
    """A Vault or OpenBao server. It has no token of its own: every method takes the token that it uses ("" = none).

    Within `async with` connections are kept; otherwise each call has a connection of its own. Redirects are not
    followed, because they would disclose the token.

    All methods raise the errors of `call`. After a `VaultUnavailableError` from `unwrap_secret_id` or `login` it is not
    known whether the token or secret id was spent.
    """

    def __init__(
        self, address: str, *, cacert: str = "", timeout: float = 10.0, connections: int = CONNECTIONS
    ) -> None:
        """`connections`: calls at a time. Two objects for one server share nothing."""
        self.address = check_address(address)
        self._connections = Connections(self.address, cacert=cacert, timeout=timeout, limit=connections)
        self._client = new_client(self._connections)

    async def __aenter__(self) -> Self:
        self._connections.keep()
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self._connections.close()

    async def call(self, token: str, request: Callable[[Any], Awaitable[T]], *, repeatable: bool = False) -> T:
        """Await `request(hvac client)`, whose methods return awaitables. JSON bodies are dicts, an empty body is {}.

        A `repeatable` request, which Vault may carry out twice, is made again if Vault closed its connection.

        Raises:
            VaultUnavailableError: no connection, time-out, sealed, 429, a redirect, a server error, or an answer of
                another server.
            VaultDeniedError: 403, or a token that Vault cannot have issued.
            VaultNotFoundError: 404; its `warnings` may contain details.
            VaultRefusedError: 400 and every other client error, in Vault's own form; 413 and 431 in any.
        """
        check_token(token, self.address)
        with as_token(token):
            if repeatable:
                with suppress(ConnectionLostError):
                    return await request(self._client)
            return await request(self._client)

    async def health(self) -> bool:
        """Whether the server is reachable, initialised and unsealed. Never raises a Vault error."""
        try:
            async with asyncio.timeout(HEALTH_WITHIN):
                status = await self.call("", lambda client: client.sys.read_seal_status(), repeatable=True)
        except (VaultError, TimeoutError):
            return False
        return bool(status.get("initialized")) and status.get("sealed") is False

    async def lookup_self(self, token: str) -> Caller:
        """The owner of a token. Takes one of its uses. Raises VaultDeniedError if it is unknown, expired or revoked."""
        answer = await self.call(token, lambda client: client.auth.token.lookup_self())
        return Caller.of(data_of(answer))

    async def capabilities(self, token: str, of: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What the token `of` may do at these literal paths, without a use of it.

        Raises VaultRefusedError if there is no such token.
        """
        check_token(of)
        if not of:  # hvac would ask about `token` itself
            raise VaultDeniedError("Vault denied permission: no token.")
        return await self._capabilities(token, paths, token=of)

    async def own_capabilities(self, token: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """The same of the token itself, for one of its uses.

        Raises VaultDeniedError if it is not valid, or may not ask.
        """
        return await self._capabilities(token, paths)

    async def _capabilities(self, own: str, paths: Sequence[str], **of: str) -> Mapping[str, frozenset[str]]:
        answer = await self.call(
            own, lambda client: client.sys.get_capabilities(paths=list(paths), **of), repeatable=True
        )
        data = data_of(answer)
        return {path: frozenset(data.get(path) or ()) for path in paths}

    async def wrap_info(self, wrapping_token: str) -> WrapInfo:
        """The origin of a wrapping token, which is not spent by this.

        Raises VaultRefusedError or VaultDeniedError if it is spent, has expired, or is no wrapping token.
        """
        body = {"token": wrapping_token}
        answer = await self.call(
            "", lambda client: client.adapter.post("/v1/sys/wrapping/lookup", json=body), repeatable=True
        )
        return WrapInfo.of(data_of(answer))

    async def unwrap_secret_id(self, wrapping_token: str) -> str:
        """Spend a wrapping token to get the secret id in it. Raises as `wrap_info`, also if it wraps something else."""
        answer = await self.call(wrapping_token, lambda client: client.sys.unwrap())
        secret_id = data_of(answer).get("secret_id")
        if not isinstance(secret_id, str):
            raise VaultRefusedError("The wrapping token does not wrap a secret id.")
        return secret_id

    async def login(self, role_id: str, secret_id: str) -> Login:
        """Log in by AppRole. Raises VaultRefusedError if the role id or the secret id is wrong, or spent."""
        answer = await self.call(
            "", lambda client: client.auth.approle.login(role_id=role_id, secret_id=secret_id, use_token=False)
        )
        return Login.of(answer)

    async def encrypt(self, token: str, key: str, plaintext: bytes, *, associated_data: bytes = b"") -> str:
        """Encrypt with a transit key. The ciphertext can be decrypted only with the same associated data."""
        (ciphertext,) = await self.encrypt_all(token, key, [(plaintext, associated_data)])
        return ciphertext

    async def encrypt_all(self, token: str, key: str, texts: Sequence[tuple[bytes, bytes]]) -> Sequence[str]:
        """Encrypt many plaintexts, each with its associated data, in one call. Either all are encrypted or none."""
        batch = [
            {"plaintext": _base64(plaintext), "associated_data": _base64(associated_data)}
            for plaintext, associated_data in texts
        ]
        answer = await self.call(
            token,
            lambda client: client.secrets.transit.encrypt_data(name=check_path(key), batch_input=batch),
            repeatable=True,
        )
        found = [result.get("ciphertext") for result in data_of(answer).get("batch_results") or ()]
        if len(found) != len(batch) or not all(isinstance(ciphertext, str) for ciphertext in found):
            raise VaultRefusedError("Vault returned no ciphertext.")
        return found

    async def decrypt(self, token: str, key: str, ciphertext: str, *, associated_data: bytes = b"") -> bytes:
        """Decrypt a ciphertext of `encrypt`. Raises UndecodableError if Vault's answer is not base64.

        Raises VaultRefusedError if it is none, was changed, or is of another key or other associated data.
        """
        fields = {"ciphertext": ciphertext, "associated_data": _base64(associated_data) or None}
        answer = await self.call(
            token, lambda client: client.secrets.transit.decrypt_data(name=check_path(key), **fields), repeatable=True
        )
        try:
            return base64.b64decode(data_of(answer)["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise UndecodableError("Vault did not return the plaintext in base64.") from None

    async def read(self, token: str, path: str) -> SecretData | None:
        """Read a path, as `check_path` allows it; None if there are neither data nor warnings. Takes one use."""
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
            await self.call(token, lambda client: client.auth.token.revoke_self(), repeatable=True)
        except VaultDeniedError:
            return


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
