"""Answers the server's requests about logins."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, StintError, UndecodableError
from stint.core.names.headers import SERVER_KEY
from stint.core.names.subjects import AUTH_GROUP, AUTH_REQUESTS
from stint.jetstream import Broker, JetStreamKeyOwners
from stint.natsauth.callout import claims
from stint.natsauth.callout.admissions import Admissions
from stint.natsauth.callout.curve import CurveKey
from stint.natsauth.callout.keyed import KeyUsers, PoolQueues, decide_by_key
from stint.natsauth.callout.rates import Rates
from stint.natsauth.callout.rule import Grant, LoginRefusedError, decide
from stint.natsauth.config import ANSWER_WITHIN
from stint.vault import Vault

log = structlog.get_logger()

AT_A_TIME: Final = 200  # logins that are being decided; more with tokens are refused: anybody can cause them
TOO_MANY: Final = "The owner of the token has too many connections, or has connected too often in the last seconds."
TOO_MUCH: Final = "The publisher has sent more messages than it may."
STORED_WITHIN: Final = 0.3  # seconds for storing whose a key is; with `ANSWER_WITHIN` less than the server waits


class Logins:
    """Counts logins until they end. NATS limits no user's connections, and does not tell of those that end sooner."""

    def __init__(self, most: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._ends: dict[str, list[float]] = {}

    def count(self, owner: str, seconds: float) -> None:
        """Count a login that is good for so long. Raises LoginRefusedError if the owner has too many."""
        now = self._monotonic()
        self._ends = {name: left for name, ends in self._ends.items() if (left := [end for end in ends if end > now])}
        ends = self._ends.setdefault(owner, [])
        if len(ends) >= self._most:
            raise LoginRefusedError(TOO_MANY)
        ends.append(now + seconds)


@dataclass(kw_only=True, repr=False)
class Callout:
    """Decides logins. Any number of these may run: the server asks one of them."""

    broker: Broker
    vault: Vault
    logins: Logins
    rates: Rates
    admissions: Admissions
    users: KeyUsers
    pools: PoolQueues
    owners: JetStreamKeyOwners
    issuer: bytes  # the seed that signs answers
    xkey: CurveKey
    maximum: float  # the seconds for which a login with a token is good
    kept: float  # for how many seconds after a key's last login it is known whose it is

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            deciding: set[asyncio.Task[None]] = set()

            async def on_request(message: Msg) -> None:
                task = group.create_task(self._answer(message, busy=len(deciding) >= AT_A_TIME))
                deciding.add(task)
                task.add_done_callback(deciding.discard)

            async with self.broker.subscribe(AUTH_REQUESTS, queue=AUTH_GROUP, cb=on_request):
                await asyncio.get_running_loop().create_future()

    async def _answer(self, message: Msg, *, busy: bool) -> None:
        try:
            server_key = (message.headers or {}).get(SERVER_KEY, "")
            login = claims.Login.parse(self.xkey.opened(message.data, server_key))
            answer = await self._decision(login, busy=busy)
            await self.broker.send(message.reply, self.xkey.sealed(answer, server_key))
        except UndecodableError as error:
            log.warning("a request of NATS cannot be read", error=error.sentence)
        except StintError as error:
            log.warning("a login could not be answered", error=error.sentence)
        except Exception:  # one request must not end the service
            log.exception("a login could not be answered")

    async def _decision(self, login: claims.Login, *, busy: bool) -> str:
        try:
            if busy and not login.nkey:
                raise LoginRefusedError("Too many logins at a time.")
            async with asyncio.timeout(ANSWER_WITHIN):
                if login.nkey:
                    grant = await decide_by_key(self.users, login, self.pools)
                else:
                    grant = await decide(self.vault, login.listed, login.token)
            return await self._allowed(login, grant)
        except TimeoutError:
            reason = f"{'NATS' if login.nkey else 'Vault'} does not answer in time."
        except StintError as error:
            reason = error.sentence
        log.warning("login refused", reason=reason, host=login.host)
        return claims.refused(login, reason, seed=self.issuer)

    async def _allowed(self, login: claims.Login, grant: Grant) -> str:
        if self.rates.keeps_out(grant.owner_hash):
            raise LoginRefusedError(TOO_MUCH)
        seconds = 0 if login.nkey else self._seconds(grant)
        if grant.signer:
            await self._claim(grant, at=login.at)
        log.info(
            "login accepted",
            name=grant.name,
            accessor=grant.accessor,
            owner=grant.owner_hash,
            host=login.host,
            seconds=seconds,
            signs_with=grant.signer,
        )
        self.admissions.expect(login.server, login.connection)
        expires_at = login.at + seconds if seconds else None
        return claims.allowed(login, grant, expires_at=expires_at, seed=self.issuer)

    def _seconds(self, grant: Grant) -> int:
        """Seconds for which a login with a token is good. A key's account has a limit of connections of its own."""
        seconds = int(min(self.maximum, grant.seconds or self.maximum))
        if not seconds:
            raise LoginRefusedError("The token is about to end.")
        self.logins.count(grant.owner, seconds)
        return seconds

    async def _claim(self, grant: Grant, *, at: int) -> None:
        """Write down whose the client's key is. It may connect although NATS does not store that: a later login does.

        Raises:
            LoginRefusedError: the key is somebody else's.
        """
        try:
            async with asyncio.timeout(STORED_WITHIN):
                own = await self.owners.claim(grant.signer, grant.key_owner(at), ttl=self.kept)
        except (TimeoutError, BrokerUnavailableError, BrokerRefusedError) as error:
            reason = error.sentence if isinstance(error, StintError) else "NATS does not answer in time."
            log.warning("whose a publisher's key is could not be stored", accessor=grant.accessor, error=reason)
            return
        if not own:
            raise LoginRefusedError("The key has been used by another owner: a client needs a key of its own.")
