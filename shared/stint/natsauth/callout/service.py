"""Answers the server's requests about logins."""

import asyncio
import time
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.errors import StintError, UndecodableError, VaultUnavailableError
from stint.core.names.headers import SERVER_KEY
from stint.core.names.subjects import AUTH_GROUP, AUTH_REQUESTS
from stint.jetstream import Broker
from stint.natsauth.callout import claims
from stint.natsauth.callout.curve import CurveKey
from stint.natsauth.callout.logins import Logins
from stint.natsauth.callout.rule import Grant, LoginRefusedError, decide
from stint.natsauth.config import ANSWER_WITHIN
from stint.natsauth.roles import PUBLISHERS_ACCOUNT
from stint.vault import Vault

log = structlog.get_logger()

AT_A_TIME: Final = 200
"""Logins that are being decided; more are refused at once. Anybody who reaches NATS can cause them."""


class Callout:
    """Decides logins. Any number of these may run: the server asks one of them."""

    def __init__(
        self, broker: Broker, vault: Vault, logins: Logins, *, issuer: bytes, xkey: CurveKey, maximum: float
    ) -> None:
        """`issuer` is the seed that signs answers, `maximum` the seconds for which a login is good."""
        self._broker = broker
        self._vault = vault
        self._issuer = issuer
        self._xkey = xkey
        self._maximum = maximum
        self._logins = logins

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            deciding: set[asyncio.Task[None]] = set()

            async def on_request(message: Msg) -> None:
                task = group.create_task(self._answer(message, busy=len(deciding) >= AT_A_TIME))
                deciding.add(task)
                task.add_done_callback(deciding.discard)

            async with self._broker.subscribe(AUTH_REQUESTS, queue=AUTH_GROUP, cb=on_request):
                await asyncio.get_running_loop().create_future()

    async def _answer(self, message: Msg, *, busy: bool) -> None:
        try:
            server_key = (message.headers or {}).get(SERVER_KEY, "")
            login = claims.Login.parse(self._xkey.opened(message.data, server_key))
            answer = await self._decision(login, busy=busy)
            await self._broker.send(message.reply, self._xkey.sealed(answer, server_key))
        except UndecodableError as error:
            log.warning("a request of NATS cannot be read", error=error.sentence)
        except StintError as error:
            log.warning("a login could not be answered", error=error.sentence)
        except Exception:  # one request must not end the service
            log.exception("a login could not be answered")

    async def _decision(self, login: claims.Login, *, busy: bool) -> str:
        try:
            if busy:
                raise LoginRefusedError("Too many logins at a time.")
            async with asyncio.timeout(ANSWER_WITHIN):
                grant = await decide(self._vault, login.listed, login.token)
            return self._allowed(login, grant)
        except TimeoutError:
            refusal: StintError = VaultUnavailableError("Vault does not answer in time.")
        except StintError as error:
            refusal = error
        log.warning("publisher refused", reason=refusal.sentence, host=login.host)
        return claims.refused(login, refusal.sentence, seed=self._issuer)

    def _allowed(self, login: claims.Login, grant: Grant) -> str:
        seconds = int(min(self._maximum, grant.seconds or self._maximum))
        if not seconds:
            raise LoginRefusedError("The token is about to end.")
        self._logins.count(grant.owner, seconds)
        log.info("publisher connected", name=grant.name, accessor=grant.accessor, host=login.host, seconds=seconds)
        expires_at = int(time.time()) + seconds
        return claims.allowed(login, grant, account=PUBLISHERS_ACCOUNT, expires_at=expires_at, seed=self._issuer)
