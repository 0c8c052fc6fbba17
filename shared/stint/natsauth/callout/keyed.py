"""Users with keys, whom `stint nats-config` lists: publishers of some queues, and pools whose queues are patterns.

The server knows their accounts. The login of a pool permits the queues that match, and are in use.
"""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import BrokerUnavailableError, ConfigError
from stint.core.names.patterns import ALL_QUEUES, QueuePatterns
from stint.core.names.streams import consumer_name
from stint.core.names.subjects import INBOX
from stint.jetstream import Broker, pending_jobs, queues_in_use
from stint.natsauth.callout.claims import Login
from stint.natsauth.callout.rule import Grant, LoginRefusedError
from stint.natsauth.config import key_publisher, permissions
from stint.natsauth.requests import Role
from stint.natsauth.roles import pool_with_jobs
from stint.natsauth.users import KeyUser

MOST: Final = 300
"""Queues in a login, unless more are asked for or have a job that somebody has. NATS keeps 15 kB of each."""
LOOK_WAIT: Final = 0.8  # seconds for what NATS says of queues, which may take a cluster without a server ten
_SPELLED: Final = (4 / 3) ** 2  # what the permissions grow by in an answer to the server, which is base64 of base64
_ROOM: Final = 8 * 1024  # bytes of an answer for everything else

_URL_SAFE: Final = str.maketrans("+/", "-_")  # clients write their signatures in either base64
KeyUsers = Mapping[str, KeyUser]  # by their public nkeys


def key_users(text: str) -> KeyUsers:
    """Read what `stint nats-config` has written. Raises ConfigError if it is something else."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, KeyUser])
    except msgspec.DecodeError:
        raise ConfigError("STINT_NATS_AUTH_USERS: not what `stint nats-config` writes.") from None


async def decide_by_key(users: KeyUsers, login: Login, pools: "PoolQueues") -> Grant:
    """What a client with a key may do. Raises LoginRefusedError without the key, or if this process was not told of it.

    For a pool, raises BrokerUnavailableError if NATS does not say which queues are in use.
    """
    if not _has_key(login):
        raise LoginRefusedError("The client has not signed the server's nonce with its key.")
    if (user := users.get(login.nkey)) is None:
        raise LoginRefusedError(
            "STINT_NATS_AUTH_USERS does not have this key: write the configuration, and start nats-auth again."
        )
    if user.pool:
        role, inbox = await pools.role(user, login.asks), INBOX
    else:
        role, inbox = key_publisher(user.name, user.queues), f"{INBOX}.{user.name}"
    return Grant(role=role, seconds=None, name=user.name, accessor="", owner=login.nkey, inbox=inbox)


def _has_key(login: Login) -> bool:
    try:
        signature = base64.urlsafe_b64decode(login.signature.translate(_URL_SAFE) + "==")
        VerifyKey(public_key_bytes(login.nkey)).verify(login.nonce.encode(), signature)
    except (ValueError, CryptoError):
        return False
    return bool(login.nonce)


class PoolQueues:
    """Knows the queues in use, as NATS said last."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._had: Mapping[str, bool] = {}
        self._pending: Mapping[str, int] | None = None

    async def role(self, pool: KeyUser, asked: str) -> Role:
        """What a runner of the pool may do that asks for the queues of these consumers.

        If not all queues fit, these come first, then those whose job somebody has, and then those that had one lately.
        Raises BrokerUnavailableError if NATS has not yet said which queues have jobs.
        """
        await asyncio.gather(self._look_at_consumers(), self._look_at_jobs())
        if self._pending is None:
            raise BrokerUnavailableError
        served, wanted, had = QueuePatterns.of(pool.queues), frozenset(asked.split()), self._had
        tokens = [token for token in {**had, **self._pending} if served.serves_token(token)]
        first = {token for token in tokens if consumer_name(token) in wanted}
        held = first | {token for token in tokens if had.get(token)}
        tokens.sort(key=lambda token: (token not in first, token not in held, token not in had))
        return pool_with_jobs(pool.name, self._fitting(pool, tokens[: max(MOST, len(held))]))

    def _fitting(self, pool: KeyUser, tokens: Sequence[str]) -> Sequence[str]:
        room = (self._broker.client.max_payload - _ROOM) / _SPELLED
        while tokens and (size := _size(pool, tokens)) > room:
            tokens = tokens[: int(len(tokens) * room / size)]
        return tokens

    async def _look_at_consumers(self) -> None:
        with suppress(TimeoutError, BrokerUnavailableError):
            async with asyncio.timeout(LOOK_WAIT):
                self._had = await queues_in_use(self._broker)

    async def _look_at_jobs(self) -> None:
        with suppress(TimeoutError, BrokerUnavailableError):
            async with asyncio.timeout(LOOK_WAIT):
                self._pending = await pending_jobs(self._broker, ALL_QUEUES)


def _size(pool: KeyUser, tokens: Sequence[str]) -> int:
    return len(msgspec.json.encode(permissions(pool_with_jobs(pool.name, tokens), INBOX)))
