"""Who is calling, and what they may do: Vault decides both. Who it is, is cached for a moment."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog

from stint.core.errors import VaultDeniedError, VaultError, VaultNotFoundError, VaultRefusedError
from stint.core.view import rfc3339
from stint.process.batches import Batches
from stint.vault import AppRoleSession, Caller, Vault, error_text
from stint.vault.actions import Action, refusal_text
from stint_api.errors import INVALID_REQUEST, RefusalError

log = structlog.get_logger()

V = TypeVar("V")

CACHE_SECONDS: Final = 5.0
"""How long a lookup is cached, and a revoked token may still be accepted."""
REFUSED_SECONDS: Final = 2.0
"""How long a refusal is cached: a bad token that is repeated costs Vault one call in this time."""
CACHE_SIZE: Final = 10_000
"""Tokens remembered at a time, of those that are good, of those that are not, and of those that are spent."""
PATHS_AT_A_TIME: Final = 200
"""In one question to Vault, which refuses some thousand."""
LIST_QUESTIONS: Final = 2
"""Questions to Vault that lists ask at a time, so that other requests' questions do not wait behind them."""
ENDED: Final = "Vault does not know the token any more: it has ended, or this request was its last use."
"""Policies can only be asked about as long as there is a token."""


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

        Raises RefusalError if Vault refuses it, and VaultUnavailableError if Vault did not answer.
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


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that Vault knows.

    Attributes:
        name: Vault's display name of the token, which events show. Not unique.
        caller: unique, and the same for all tokens of an identity; without an identity it stands for one token.
        entity: id of the identity behind the token, "" if there is none.
        accessor: names the token and cannot be used as one, "" for batch tokens.
        limited: the token has a limited number of uses.
        address: from which the request came, "" if events must not say it.
    """

    name: str
    token: str = field(repr=False)
    caller: str = field(repr=False)
    entity: str = ""
    accessor: str = field(default="", repr=False)
    limited: bool = False
    address: str = ""

    def stamp(self, now: datetime) -> dict[str, Any]:
        """What every event says that this caller causes: a new id, the time, and who it is."""
        return {
            "event_id": uuid4().hex,
            "at": rfc3339(now),
            "by": self.name,
            "by_entity": self.entity,
            "by_accessor": self.accessor,
            "by_address": self.address,
        }


class Authenticator:
    """Asks Vault about tokens."""

    def __init__(self, lookups: Lookups, vault: Vault, session: AppRoleSession, *, by_policy: bool) -> None:
        """With `by_policy` Vault's policies decide; without it any valid token may do everything."""
        self._lookups = lookups
        self._vault = vault
        self._session = session
        self.by_policy = by_policy
        self._list_questions = asyncio.Semaphore(LIST_QUESTIONS)
        self._questions: WeakValueDictionary[str, Batches[str, frozenset[str]]] = WeakValueDictionary()

    async def identify(self, token: str | None) -> Identity:
        """Who this token belongs to. Costs a use-limited token one use.

        Raises RefusalError without one, or if Vault refuses it, and VaultUnavailableError if Vault did not answer.
        """
        if token is None:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "Missing X-Auth-Token", title=INVALID_REQUEST)
        found = await self._lookups.caller(token)
        return Identity(
            name=found.display_name,
            token=token,
            caller=_caller(found, token),
            entity=found.entity_id,
            accessor=found.accessor,
            limited=found.num_uses != 0,
        )

    async def require(self, identity: Identity, action: Action, *qnames: str) -> None:
        """Raise RefusalError if the caller may not do this in one of these queues."""
        allowed = await self._allowed(identity, action, qnames)
        if refused := [qname for qname in qnames if qname not in allowed]:
            raise RefusalError(HTTPStatus.FORBIDDEN, refusal_text(action, refused[0]))

    async def permitted(self, identity: Identity, action: Action, names: Collection[str]) -> Collection[str]:
        """Those of the queues or runners, however many, to which the caller may do this, now.

        All lists' questions share `LIST_QUESTIONS` places. Raises RefusalError if the token has ended meanwhile.
        """
        found: set[str] = set()
        several = list(names)
        for first in range(0, len(several), PATHS_AT_A_TIME):
            async with self._list_questions:
                found.update(await self._allowed(identity, action, several[first : first + PATHS_AT_A_TIME]))
        return found

    async def _allowed(self, identity: Identity, action: Action, qnames: Collection[str]) -> Collection[str]:
        """Those of the queues, at most `PATHS_AT_A_TIME`, in which the caller may do this."""
        if not self.by_policy or not qnames:
            return qnames
        paths = {qname: action.path(qname) for qname in qnames}
        found = await self._capabilities(identity, list(paths.values()))
        return {qname for qname, path in paths.items() if action.allowed_by(found[path])}

    async def check_again(self, identity: Identity, action: Action, *qnames: str) -> None:
        """Return if the caller might still begin what it began; without queues, if its token is good. Costs it no use.

        Otherwise raises RefusalError, or VaultUnavailableError if Vault did not answer.
        """
        if self.by_policy and qnames:
            await self.require(identity, action, *qnames)
        elif self.by_policy or identity.limited:
            await self._capabilities(identity, [action.path("".join(qnames[:1]))])
        else:
            await self._lookups.fresh(identity.token)

    async def _capabilities(self, identity: Identity, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        try:
            await self._session.token()
        except VaultRefusedError as error:  # our own fault, of which the caller's token knows nothing
            log.error("the API cannot log in to Vault", error=error.sentence)  # noqa: TRY400 - a sentence says it
            raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "The API cannot log in to Vault.") from None
        try:
            if len(paths) == 1:
                return {paths[0]: await self._questions_about(identity.token).ask(paths[0])}
            return await self._ask(identity.token, paths)
        except VaultRefusedError:
            if not identity.limited:
                await self._lookups.fresh(identity.token)  # raises what Vault itself says of a token that has ended
            raise RefusalError(HTTPStatus.FORBIDDEN, ENDED) from None

    def _questions_about(self, token: str) -> Batches[str, frozenset[str]]:
        """Joins the questions of requests with the same token that come at the same time."""

        async def ask(paths: Sequence[str]) -> Sequence[frozenset[str]]:
            found = await self._ask(token, list(dict.fromkeys(paths)))
            return [found[path] for path in paths]

        return self._questions.setdefault(token, Batches(ask, alone=VaultRefusedError))

    async def _ask(self, token: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return await self._session.call(lambda own: self._vault.capabilities(own, token, paths))


def _caller(caller: Caller, token: str) -> str:
    if caller.entity_id:
        return f"entity {caller.entity_id}"
    if caller.accessor:
        return f"accessor {caller.accessor}"
    return f"token {hashlib.sha256(token.encode()).hexdigest()}"
