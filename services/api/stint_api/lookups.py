"""Whose a token is: Vault is asked, and what it says is cached for a moment."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from stint.core.errors import VaultDeniedError, VaultError, VaultNotFoundError, VaultRefusedError
from stint.vault import Caller, Vault, error_text
from stint_api.errors import INVALID_REQUEST, RefusalError

V = TypeVar("V")

CACHE_SECONDS: Final = 5.0
"""How long a lookup is cached, and a revoked token may still be accepted."""
REFUSED_SECONDS: Final = 2.0
"""How long a refusal is cached: a bad token that is repeated costs Vault one call in this time."""
CACHE_SIZE: Final = 10_000
"""Tokens remembered at a time, of those that are good, of those that are not, and of those that are spent."""


class Memory(Generic[V]):
    """A value for each of the last `size` tokens, of which it keeps only keyed hashes."""

    def __init__(self, monotonic: Callable[[], float], size: int) -> None:
        self._monotonic = monotonic
        self._size = size
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[V, float]] = OrderedDict()

    def get(self, token: str) -> V | None:
        """What was stored, None if nothing was or it has expired."""
        found = self._known.get(self._digest(token))
        return found[0] if found and self._monotonic() < found[1] else None

    def put(self, token: str, value: V, seconds: float) -> None:
        """Store a value for so many seconds. The oldest makes room for it."""
        digest = self._digest(token)
        self._known.pop(digest, None)
        now = self._monotonic()
        while self._known and (len(self._known) >= self._size or next(iter(self._known.values()))[1] <= now):
            self._known.popitem(last=False)
        self._known[digest] = (value, now + seconds)

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogatepass"), key=self._key).digest()


class Lookups:
    """Asks Vault who tokens belong to, on connections of its own: anybody can cause these calls."""

    def __init__(self, vault: Vault, *, monotonic: Callable[[], float]) -> None:
        self._vault = vault
        self._callers = Memory[Caller](monotonic, CACHE_SIZE)
        self._refusals = Memory[RefusalError](monotonic, CACHE_SIZE)

    async def caller(self, token: str) -> Caller:
        """Who this token belongs to. Costs a use-limited token one use.

        Raises:
            RefusalError: Vault refuses it.
            VaultUnavailableError: Vault did not answer.
        """
        return self._callers.get(token) or await self.fresh(token)

    async def fresh(self, token: str) -> Caller:
        """Likewise, without the cache of good tokens."""
        if refusal := self._refusals.get(token):
            raise refusal.again()
        try:
            caller = await self._vault.lookup_self(token)
        except (VaultDeniedError, VaultRefusedError, VaultNotFoundError) as error:
            refusal = _refusal(token, error)
            self._refusals.put(token, refusal.again(), REFUSED_SECONDS)
            raise refusal from None
        if caller.num_uses == 0:
            self._callers.put(token, caller, min(CACHE_SECONDS, caller.ttl or CACHE_SECONDS))
        return caller


def _refusal(token: str, error: VaultError) -> RefusalError:
    """No token at all is a denial, whatever a Vault's version calls it."""
    if isinstance(error, VaultDeniedError) or not token:
        return RefusalError(HTTPStatus.FORBIDDEN, error_text(error))
    return RefusalError(HTTPStatus.BAD_REQUEST, error_text(error), title=INVALID_REQUEST)
