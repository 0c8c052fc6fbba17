"""Users with keys: `stint nats-config` says which queues they may use, and the server knows their accounts."""

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import ConfigError
from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import consumer_name
from stint.jetstream import Broker, pending_jobs, queues_in_use
from stint.natsauth.callout.claims import Login
from stint.natsauth.callout.rule import Grant, LoginRefusedError
from stint.natsauth.config import key_publisher, permissions
from stint.natsauth.roles import pool_with_jobs
from stint.natsauth.users import KeyUser

_URL_SAFE: Final = str.maketrans("+/", "-_")
"""Clients write their signatures in either base64."""
_INBOX: Final = "_INBOX"
_SPELLED: Final = (4 / 3) ** 2
"""What the permissions grow by in an answer to the server, which is base64 of base64."""
_ROOM: Final = 8 * 1024
"""Bytes of an answer for everything else."""
MOST: Final = 300
"""Queues of a pool in a login, unless more have a job that somebody has. NATS keeps 15 kB for each of a connection."""


KeyUsers = Mapping[str, KeyUser]
"""By their public nkeys."""


def key_users(text: str) -> KeyUsers:
    """What `stint nats-config` has written.

    Raises:
        ConfigError: it has not.
    """
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, KeyUser])
    except msgspec.DecodeError:
        raise ConfigError("STINT_NATS_AUTH_USERS: not what `stint nats-config` writes.") from None


async def decide_by_key(users: KeyUsers, login: Login, broker: Broker) -> Grant:
    """What a client with a key may do.

    Raises:
        LoginRefusedError: it does not have the key, or nobody has told this process about it.
        BrokerUnavailableError: NATS does not say which queues have jobs.
    """
    if not _has_key(login):
        raise LoginRefusedError("The client has not signed the server's nonce with its key.")
    if (user := users.get(login.nkey)) is None:
        raise LoginRefusedError(
            "STINT_NATS_AUTH_USERS does not have this key: write the configuration, and start nats-auth again."
        )
    if user.pool:
        tokens = await _in_use(broker, user, login.asks)
        role, inbox = pool_with_jobs(user.name, tokens), _INBOX
    else:
        role, inbox = key_publisher(user.name, user.queues), f"{_INBOX}.{user.name}"
    return Grant(role=role, seconds=None, name=user.name, accessor="", owner=login.nkey, inbox=inbox)


async def _in_use(broker: Broker, pool: KeyUser, asked: str) -> Sequence[str]:
    """The queues of the pool that are in use, or some of them.

    Those come first whose job somebody has: it must be able to end it. Then come those that are asked for, those that
    had a job lately, and those that have one.
    """
    served = QueuePatterns.of(pool.queues)
    had = {token: held for token, held in (await queues_in_use(broker)).items() if served.serves_token(token)}
    wanted = frozenset(asked.split())
    tokens = sorted(
        had.keys() | await pending_jobs(broker, served),
        key=lambda token: (not had.get(token), consumer_name(token) not in wanted, token not in had),
    )
    tokens = tokens[: max(MOST, sum(had.values()))]
    room = (broker.client.max_payload - _ROOM) / _SPELLED
    while tokens and (size := _size(pool, tokens)) > room:
        tokens = tokens[: int(len(tokens) * room / size)]
    return tokens


def _size(pool: KeyUser, tokens: Sequence[str]) -> int:
    return len(msgspec.json.encode(permissions(pool_with_jobs(pool.name, tokens), _INBOX)))


def _has_key(login: Login) -> bool:
    try:
        signature = base64.urlsafe_b64decode(login.signature.translate(_URL_SAFE) + "==")
        VerifyKey(public_key_bytes(login.nkey)).verify(login.nonce.encode(), signature)
    except (ValueError, CryptoError):
        return False
    return bool(login.nonce)
