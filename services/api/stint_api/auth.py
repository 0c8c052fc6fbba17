"""Who is calling, and what they may do: both are Vault's to say."""

import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal

from stint.errors import VaultDeniedError, VaultError, VaultNotFoundError, VaultRefusedError, VaultUnavailableError
from stint.vault import AppRoleSession, Caller, Vault, error_text
from stint_api.answers import INVALID_REQUEST, RefusalError

CACHE_SECONDS: Final = 5.0
"""How long a lookup counts: as long may a revoked token still be taken."""
CACHE_SIZE: Final = 10_000
"""Tokens remembered at a time."""

Capability = Literal["create", "read", "update", "delete"]
"""On `stint/queue/<qname>`: submit, read, kill or release, delete."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that Vault knows.

    Attributes:
        name: Vault's display name of the token; what facts show. Not unique.
        caller: who it is, unlike any other: the same over all tokens of an identity, else one token.
    """

    name: str
    token: str = field(repr=False)
    caller: str = field(repr=False)


class Authenticator:
    """Asks Vault about tokens."""

    def __init__(
        self, vault: Vault, session: AppRoleSession, *, by_policy: bool, monotonic: Callable[[], float]
    ) -> None:
        """With `by_policy` Vault's policies decide; without it any valid token may do everything."""
        self._vault = vault
        self._session = session
        self._by_policy = by_policy
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._cache: dict[bytes, tuple[Caller, float]] = {}

    async def identify(self, token: str | None) -> Identity:
        """Who this token belongs to. Costs a use-limited token one use.

        Raises:
            RefusalError: no token, or one that Vault does not take.
            VaultUnavailableError: nobody can say.
        """
        if token is None:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "Missing X-Auth-Token", title=INVALID_REQUEST)
        caller = self._cached(token) or await self._look_up(token)
        return Identity(caller.display_name, token, _caller(caller, token))

    async def require(self, identity: Identity, capability: Capability, qname: str) -> None:
        """Return if the caller may do this in this queue.

        Raises:
            RefusalError: it may not.
        """
        if qname not in await self.allowed(identity, capability, [qname]):
            raise RefusalError(HTTPStatus.FORBIDDEN, f"The token may not {capability} at {_path(qname)}.")

    async def allowed(self, identity: Identity, capability: Capability, qnames: Collection[str]) -> Collection[str]:
        """Those of the queues in which the caller may do this. One question to Vault for all of them."""
        if not self._by_policy or not qnames:
            return qnames
        paths = [_path(qname) for qname in qnames]
        try:
            found = await self._session.call(lambda own: self._vault.capabilities(own, identity.token, paths))
        except VaultRefusedError:  # the token has ended since it was looked up
            return ()
        return {qname for qname in qnames if found[_path(qname)] & {capability, "root"}}

    async def _look_up(self, token: str) -> Caller:
        try:
            caller = await self._vault.lookup_self(token)
        except VaultUnavailableError:
            raise
        except VaultDeniedError as error:
            raise RefusalError(HTTPStatus.FORBIDDEN, error_text(error)) from None
        except (VaultRefusedError, VaultNotFoundError) as error:
            raise _other_answer(token, error) from None
        if caller.num_uses == 0:
            self._remember(token, caller)
        return caller

    def _cached(self, token: str) -> Caller | None:
        found = self._cache.get(self._digest(token))
        return found[0] if found and self._monotonic() < found[1] else None

    def _remember(self, token: str, caller: Caller) -> None:
        now = self._monotonic()
        if len(self._cache) >= CACHE_SIZE:
            self._cache = {key: entry for key, entry in self._cache.items() if now < entry[1]}
        if len(self._cache) < CACHE_SIZE:
            self._cache[self._digest(token)] = (caller, now + min(CACHE_SECONDS, caller.ttl or CACHE_SECONDS))

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogatepass"), key=self._key).digest()


def _caller(caller: Caller, token: str) -> str:
    if caller.entity_id:
        return f"entity {caller.entity_id}"
    if caller.accessor:
        return f"accessor {caller.accessor}"
    return f"token {hashlib.sha256(token.encode()).hexdigest()}"


def _path(qname: str) -> str:
    return f"stint/queue/{qname}"


def _other_answer(token: str, error: VaultError) -> RefusalError:
    """No token at all is a denial, whatever a Vault's version calls it."""
    if token:
        return RefusalError(HTTPStatus.BAD_REQUEST, error_text(error), title=INVALID_REQUEST)
    return RefusalError(HTTPStatus.FORBIDDEN, error_text(error))
