"""Sessions, kept in the KV bucket `sessions`, where every API process finds them. Their tokens are sealed by Vault."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

import msgspec
import structlog

from stint.core.codec import decode
from stint.core.errors import (
    BrokerUnavailableError,
    InProgressError,
    UndecodableError,
    VaultDeniedError,
    VaultError,
    VaultRefusedError,
)
from stint.core.names.streams import SESSIONS_BUCKET
from stint.jetstream import Broker, Bucket
from stint.process.waiting import repeat
from stint.vault import SESSION_KEY, AppRoleSession, Caller, Vault
from stint_api.errors import RefusalError
from stint_api.session import cookie

log = structlog.get_logger()

IDLE: Final = timedelta(hours=8)
"""After so long without a request a session ends."""
LONGEST: Final = timedelta(days=7)
"""How long a session lasts at most, if its token lasts longer."""
TOUCHED: Final = timedelta(minutes=5)
"""How exactly it is kept when a session was used last."""
TOUCHES: Final = 10
TOUCH_PAUSE: Final = 0.1
"""Attempts to keep that, and seconds between them: other processes may do it at the same time."""
NO_KEY: Final = f"The API may not use Vault's transit key {SESSION_KEY}: `stint vault-setup` makes it."
RETRY_PAUSE: Final = 1.0
"""Seconds before the bucket is followed again after a failure."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the bucket has it. `revoke`: its token was made for it, and is revoked with it."""

    sealed: str
    who: str
    made: datetime
    until: datetime
    revoke: bool = False


@dataclass(kw_only=True, eq=False)
class Session:
    """Somebody who is signed in.

    Attributes:
        key: its name in the bucket.
        who: Vault's display name of the token.
        until: when it ends at the latest.
        used: when this process last kept that it is used; None if it has not yet: then nothing proves that it lasts.
        ended: set when it has ended, in whatever process.
        touching: held while this process keeps that it is used.
    """

    key: str
    token: str = field(repr=False)
    who: str
    until: datetime
    used: datetime | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    touching: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """Begins, finds and ends sessions. What is known of them here is used only while the bucket is followed."""

    def __init__(self, broker: Broker, vault: Vault, login: AppRoleSession, *, now: Callable[[], datetime]) -> None:
        """`login` may use the key `SESSION_KEY`."""
        self._broker = broker
        self._bucket = Bucket(broker, SESSIONS_BUCKET)
        self._vault = vault
        self._login = login
        self._now = now
        self._known: dict[str, Session] = {}
        self.following = asyncio.Event()

    async def begin(self, token: str, caller: Caller, *, revoke: bool = False) -> str:
        """Begin a session for a token's owner; returns its cookie's value. Refuses a token with a limit of uses."""
        if caller.num_uses:
            raise RefusalError(
                HTTPStatus.FORBIDDEN,
                f"This token may be used {caller.num_uses} times only, and a page would spend that. "
                "Sign in with a token without a limit of uses.",
            )
        made, text = self._now(), secrets.token_urlsafe(32)
        until = made + min(timedelta(seconds=caller.ttl) if caller.ttl else LONGEST, LONGEST)
        bound = cookie.key(text)
        sealed = await self._seal(bound, token)
        stored = Stored(sealed=sealed, who=caller.display_name, made=made, until=until, revoke=revoke)
        await self._bucket.write(bound, msgspec.json.encode(stored), revision=0, ttl=self._lifetime(made, until))
        return text

    async def find(self, text: str) -> Session | None:
        """The session with this cookie, None if it has ended."""
        bound = cookie.key(text)
        session = self._known.get(bound) if self.following.is_set() else None
        if session is None:
            session = await self._load(bound)
        if session is not None and not self._is_fresh(session):
            session = await self._touch(session)
        return session

    def _is_fresh(self, session: Session) -> bool:
        return session.used is not None and self._now() - session.used <= TOUCHED

    async def end(self, bound: str) -> None:
        """End the session of this `cookie.key`: in this process now, and in all others as they hear of it.

        A token that was made for the session is revoked. If that fails, the session has ended all the same.
        """
        known = bound in self._known  # a server that lags may not have it
        value, _ = await self._stored(bound)
        if value is None and not known:  # what is deleted is written: nobody without a session may do that
            return
        try:
            await self._bucket.delete(bound)
        finally:  # NATS may delete it without an answer, and nobody finds its token then
            self._forget(bound)
            if value is not None:  # otherwise nobody has its token, which will expire
                await self._revoke(bound, value)

    async def _stored(self, bound: str) -> tuple[bytes | None, int]:
        """What the bucket has of a session, and its revision; None for one that has ended, which is forgotten."""
        found = await self._bucket.read(bound)
        if found is None or found.value is None:
            self._forget(bound)
            return None, 0
        return found.value, found.revision

    async def _revoke(self, bound: str, value: bytes) -> None:
        try:
            stored = decode(value, Stored)
            if stored.revoke:
                await self._vault.revoke_self(await self._open(bound, stored.sealed))
        except (UndecodableError, VaultError) as error:
            log.warning("the token of a session that ended is not revoked, it will expire", error=error.sentence)

    def _forget(self, bound: str) -> None:
        if session := self._known.pop(bound, None):
            session.ended.set()

    async def _load(self, bound: str) -> Session | None:
        value, _ = await self._stored(bound)
        if value is None:
            return None
        if session := self._known.get(bound):
            return session
        stored = decode(value, Stored)
        token = await self._open(bound, stored.sealed)
        made = Session(key=bound, token=token, who=stored.who, until=stored.until)
        return self._known.setdefault(bound, made)

    async def _seal(self, bound: str, token: str) -> str:
        try:
            return await self._login.call(
                lambda own: self._vault.encrypt(own, SESSION_KEY, token.encode(), associated_data=bound.encode())
            )
        except (VaultDeniedError, VaultRefusedError):
            raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, NO_KEY) from None

    async def _open(self, bound: str, sealed: str) -> str:
        try:
            opened = await self._login.call(
                lambda own: self._vault.decrypt(own, SESSION_KEY, sealed, associated_data=bound.encode())
            )
        except VaultRefusedError:
            raise UndecodableError("A session's token cannot be opened: its key was changed.") from None
        return opened.decode()

    async def _touch(self, session: Session) -> Session | None:
        """Let it last for `IDLE` from now, unless another process has ended it.

        That this is written proves that it has not ended: a server that lags may say what was true once.
        """
        async with session.touching:
            for _ in range(TOUCHES):
                now = self._now()
                if self._is_fresh(session):  # since another request has waited for this
                    return session
                value, revision = await self._stored(session.key)
                if value is None or now >= session.until:
                    self._forget(session.key)
                    return None
                ttl = self._lifetime(now, session.until)
                with suppress(InProgressError):
                    if await self._bucket.write(session.key, value, revision=revision, ttl=ttl):
                        session.used = now
                        return session
                await asyncio.sleep(TOUCH_PAUSE)
        raise BrokerUnavailableError

    def _lifetime(self, now: datetime, until: datetime) -> float:
        return max(1.0, min(IDLE, until - now).total_seconds())

    async def run(self) -> None:
        """Follow the bucket until cancelled, so that a session which ends elsewhere ends here as well."""
        await repeat(self._follow, lambda: RETRY_PAUSE, failed="the sessions cannot be followed, retrying")

    async def _follow(self) -> None:
        await self._broker.wait_connected()
        last = int((await self._bucket.info())["state"]["last_seq"])
        try:
            async with self._bucket.follow(after=last) as pages:
                for session in list(self._known.values()):  # of those that ended meanwhile nobody has told
                    session.used = None  # what the bucket says now is proven at the next use
                    await self._stored(session.key)
                self.following.set()
                async for page in pages:
                    for entry in page:
                        if entry.value is None:
                            self._forget(entry.key)
        finally:
            self.following.clear()
