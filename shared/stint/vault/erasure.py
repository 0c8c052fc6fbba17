"""A key of its own for each payload: who destroys the key makes the payload unreadable, wherever copies of it are.

A payload is sealed with a key that opens all payloads. Before it is stored, it is encrypted once more with a random
key, which is kept in Vault only, under the name that the stored bytes begin with. See docs/adr/0029.

Needs pynacl, which clients do not have.
"""

import base64
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from urllib.parse import quote

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from stint.core.errors import UndecodableError, VaultNotFoundError
from stint.core.events import Submitted
from stint.vault.answers import data_of
from stint.vault.policies import KEYS, PUBLISHERS
from stint.vault.session import AppRoleSession

_NAME: Final = re.compile(
    rf"(?:{PUBLISHERS}[0-9a-f-]{{36}}/)?([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})-([0-9a-f]{{24}})-[A-Za-z0-9_-]{{1,64}}"
)
_HEAD: Final = re.compile(rb"stint-erasable-1 (%s)\n" % _NAME.pattern.encode())
_NONCE: Final = bytes(Aead.NONCE_SIZE)
"""The same for all, because a key encrypts one payload only. So a repeated attempt stores the same bytes."""


@dataclass(frozen=True, slots=True)
class PayloadKey:
    """A key of 32 bytes, and its name: see `key_name` and `publishers_key_name`."""

    name: str
    value: bytes = field(repr=False)


def key_name(job_id: str, submitted: Submitted) -> str:
    """The name of the key of the payload that this event announces: the event's day, the job's id, the event's id.

    The day is there because Vault does not say how old a key is, and a key whose job never comes has to go some day.
    """
    return f"{submitted.at[:10]}-{job_id}-{submitted.event_id}"


def publishers_key_name(job_id: str, submitted: Submitted) -> str:
    """The same for a direct publisher: in the folder of its identity, which the event names."""
    return f"{PUBLISHERS}{submitted.by_entity}/{key_name(job_id, submitted)}"


def day_and_job(name: str) -> tuple[date, str] | None:
    """The day and the job's id in a key's name, None if no payload can give this name."""
    parts = _NAME.fullmatch(name)
    try:
        return (date.fromisoformat(parts[1]), parts[2]) if parts else None
    except ValueError:
        return None


def new_key(name: str) -> PayloadKey:
    """A random key."""
    return PayloadKey(name, secrets.token_bytes(Aead.KEY_SIZE))


def encrypted(sealed: bytes, key: PayloadKey) -> bytes:
    """The payload as it is stored: a line with the key's name, and XChaCha20-Poly1305, which covers that line too."""
    head = f"stint-erasable-1 {key.name}\n".encode()
    return head + Aead(key.value).encrypt(sealed, aad=head, nonce=_NONCE).ciphertext


def key_of(stored: bytes) -> str:
    """The name of the key that a stored payload needs, "" if it needs none."""
    head = _HEAD.match(stored)
    return head[1].decode() if head else ""


def decrypted(stored: bytes, key: PayloadKey) -> bytes:
    """The sealed payload. Raises UndecodableError if it was encrypted with another key, or changed."""
    head, _, ciphertext = stored.partition(b"\n")
    try:
        return Aead(key.value).decrypt(ciphertext, aad=head + b"\n", nonce=_NONCE)
    except (CryptoError, ValueError):
        raise UndecodableError("The payload does not fit its key.") from None


class PayloadKeys:
    """The keys in Vault. All methods may be repeated, and raise the errors of `Vault.call`."""

    def __init__(self, session: AppRoleSession) -> None:
        self._session = session

    async def store(self, key: PayloadKey) -> None:
        """Keep a key."""
        body = {"key": base64.b64encode(key.value).decode()}
        await self._session.request(lambda client: client.adapter.post(_path(key.name), json=body))

    async def load(self, name: str) -> PayloadKey | None:
        """The key of this name, None if it was destroyed. Raises UndecodableError if what is there is not a key."""
        try:
            answer = await self._session.request(lambda client: client.adapter.get(_path(name)))
            value = base64.b64decode(data_of(answer)["key"], validate=True)
        except VaultNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            value = b""
        if len(value) != Aead.KEY_SIZE:
            raise UndecodableError("The payload's key is malformed.")
        return PayloadKey(name, value)

    async def destroy(self, name: str) -> None:
        """Remove a key for good, whether it is there or not. KV version 1 keeps no versions."""
        await self._session.request(lambda client: client.adapter.delete(_path(name)))

    async def destroy_of(self, job_id: str, submitted: Submitted) -> None:
        """Remove the key of the payload that this event announces, whoever has made it."""
        for name in (key_name(job_id, submitted), publishers_key_name(job_id, submitted)):
            if day_and_job(name):
                await self.destroy(name)

    async def names(self, folder: str = "") -> Collection[str]:
        """The names of all that is in this folder, those of further folders with a slash at the end.

        In a publisher's folder they can be of any shape. Raises TooLongAnswerError if there are too many.
        """
        try:
            answer = await self._session.request(lambda client: client.adapter.list(_path(folder)))
        except VaultNotFoundError:  # there is none
            return ()
        return [f"{folder}{name}" for name in data_of(answer).get("keys") or () if isinstance(name, str)]


def _path(name: str) -> str:
    return f"/v1/{KEYS}/{quote(name)}"
