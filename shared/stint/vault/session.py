"""A service's own login."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, Final, TypeVar

import structlog

from stint.core.errors import VaultDeniedError, VaultError
from stint.vault.answers import Login
from stint.vault.client import Vault

T = TypeVar("T")
log = structlog.get_logger()

_USED_FRACTION: Final = 0.8  # the part of a token's time to live after which the session logs in again


class AppRoleSession:
    """Logs in on first use, again shortly before the token expires, and again when Vault no longer knows it."""

    def __init__(self, vault: Vault, role_id: str, secret_id: str) -> None:
        self.vault = vault
        self._role_id = role_id
        self._secret_id = secret_id
        self._lock = asyncio.Lock()
        self._login: Login | None = None
        self._renew_at = float("inf")
        self._failure: VaultError | None = None

    async def token(self) -> str:
        """A token that stays valid for a while. Raises VaultRefusedError if the role id or secret id is unknown."""
        if (login := self._good()) is None:
            known = self._failure
            async with self._lock:
                login = self._good() or await self._log_in(known)
        return login.token

    async def call(self, method: Callable[[str], Awaitable[T]]) -> T:
        """Run `method(token)`; if Vault denies it because the token has expired, log in and run it once more.

        Raises:
            VaultDeniedError: the token is valid but may not do this, or the second attempt was denied too.
        """
        token = await self.token()
        try:
            return await method(token)
        except VaultDeniedError:
            if await self._is_good(token):
                raise
        await self._forget(token)
        return await method(await self.token())

    async def request(self, request: Callable[[Any], Awaitable[T]]) -> T:
        """Make a request that Vault may carry out twice, see `Vault.call`, as `call` does."""
        return await self.call(lambda own: self.vault.call(own, request, repeatable=True))

    async def close(self) -> None:
        """Revoke the token. If Vault is unavailable, the token expires by itself."""
        async with self._lock:
            login, self._login = self._login, None
        if login is None:
            return
        try:
            await self.vault.revoke_self(login.token)
        except VaultError as error:
            log.info("own Vault token not revoked, it will expire", error=error.sentence)

    def _good(self) -> Login | None:
        """The login, unless it has to be renewed."""
        return self._login if asyncio.get_running_loop().time() < self._renew_at else None

    async def _log_in(self, known: VaultError | None) -> Login:
        """Log in. The caller holds the lock, so that many callers can wait for this one login.

        They share its failure too: if the last one is not the one `known` to a caller that came before, it raises that.
        With a Vault that hangs, each would wait for the time-outs of all who came before it otherwise.
        """
        if self._failure is not None and self._failure is not known:
            raise copy(self._failure)
        started = asyncio.get_running_loop().time()
        try:
            login = await self.vault.login(self._role_id, self._secret_id)
        except VaultError as error:
            self._failure = copy(error)  # the error itself would keep the frames that it passed
            raise
        self._renew_at = started + login.ttl * _USED_FRACTION if login.ttl else float("inf")
        self._login = login
        return login

    async def _is_good(self, token: str) -> bool:
        """Whether the token is valid: then the permission is missing, which a new login would not change."""
        try:
            await self.vault.lookup_self(token)
        except VaultDeniedError:
            return False
        return True

    async def _forget(self, token: str) -> None:
        async with self._lock:
            if self._login is not None and self._login.token == token:
                self._login = None
