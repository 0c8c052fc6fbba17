"""Users with keys: `stint nats-config` says which queues they may use, and the server knows their accounts."""

import base64
from collections.abc import Mapping
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import ConfigError
from stint.core.names.subjects import INBOX
from stint.natsauth.callout.claims import Login
from stint.natsauth.callout.pools import PoolQueues
from stint.natsauth.callout.rule import Grant, LoginRefusedError
from stint.natsauth.config import key_publisher
from stint.natsauth.users import KeyUser

_URL_SAFE: Final = str.maketrans("+/", "-_")
"""Clients write their signatures in either base64."""
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


async def decide_by_key(users: KeyUsers, login: Login, pools: PoolQueues) -> Grant:
    """What a client with a key may do.

    Raises:
        LoginRefusedError: it does not have the key, or nobody has told this process about it.
        BrokerUnavailableError: it is a pool, and NATS does not say which queues are in use.
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
