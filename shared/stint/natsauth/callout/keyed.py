"""Publishers with keys: `stint nats-config` says which queues they may use, and the server knows their accounts."""

import base64
from collections.abc import Mapping
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import ConfigError
from stint.natsauth.callout.claims import Login
from stint.natsauth.callout.rule import Grant, LoginRefusedError
from stint.natsauth.config import KeyPublisher, key_publisher

_URL_SAFE: Final = str.maketrans("+/", "-_")
"""Clients write their signatures in either base64."""


KeyPublishers = Mapping[str, KeyPublisher]
"""By their public nkeys."""


def key_publishers(text: str) -> KeyPublishers:
    """What `stint nats-config` has written.

    Raises:
        ConfigError: it has not.
    """
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, KeyPublisher])
    except msgspec.DecodeError:
        raise ConfigError("STINT_NATS_AUTH_PUBLISHERS: not what `stint nats-config` writes.") from None


def decide_by_key(publishers: KeyPublishers, login: Login) -> Grant:
    """What a client with a key may do.

    Raises:
        LoginRefusedError: it does not have the key, or nobody has told this process about it.
    """
    if not _has_key(login):
        raise LoginRefusedError("The client has not signed the server's nonce with its key.")
    if (found := publishers.get(login.nkey)) is None:
        raise LoginRefusedError("No publisher has this key: write the configuration, and start nats-auth again.")
    role = key_publisher(found.name, found.queues)
    return Grant(role=role, seconds=None, name=found.name, accessor="", owner=login.nkey, inbox=f"_INBOX.{found.name}")


def _has_key(login: Login) -> bool:
    try:
        signature = base64.urlsafe_b64decode(login.signature.translate(_URL_SAFE) + "==")
        VerifyKey(public_key_bytes(login.nkey)).verify(login.nonce.encode(), signature)
    except (ValueError, CryptoError):
        return False
    return bool(login.nonce)
