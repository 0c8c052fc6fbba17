"""Who is calling, and what they may do: Vault decides both."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final, TypedDict
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog

from stint.core.errors import VaultRefusedError
from stint.core.view import rfc3339
from stint.process.batches import Batches
from stint.vault import AppRoleSession, Caller, Vault
from stint.vault.actions import READ, Action, refusal_text
from stint_api.errors import INVALID_REQUEST, RefusalError
from stint_api.lookups import Lookups

log = structlog.get_logger()

PATHS_AT_A_TIME: Final = 200
"""In one question to Vault, which refuses some thousand."""
LIST_QUESTIONS: Final = 2
"""Questions to Vault that lists ask at a time, so that other requests' questions do not wait behind them."""
ENDED: Final = "Vault does not know the token any more: it has ended, or this request was its last use."
"""Policies can only be asked about as long as there is a token."""


class Stamp(TypedDict):
    """The fields of `stint.core.events.Event` that each event has: its id, when it was made, and who caused it."""

    event_id: str
    at: str
    by: str
    by_entity: str
    by_accessor: str
    by_address: str


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

    def stamp(self, now: datetime) -> Stamp:
        """What an event says that this caller causes now, with a new id."""
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

        Raises:
            RefusalError: there is no token, or Vault refuses it.
            VaultUnavailableError: Vault did not answer.
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

    async def readable(self, identity: Identity, qnames: Collection[str]) -> Collection[str]:
        """Those of the queues, however many, that the caller may read, now. Otherwise as `permitted`."""
        return await self.permitted(identity, READ, qnames)

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

        Raises:
            RefusalError: the token has ended, or may not do this any more.
            VaultUnavailableError: Vault did not answer.
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
