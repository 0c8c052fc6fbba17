"""What a service does with a transit key, with its own token: encrypts, or signs."""

import base64
from collections.abc import Mapping, Sequence
from typing import Final

from stint.core.errors import VaultRefusedError
from stint.process.batches import Batches
from stint.vault.answers import data_of
from stint.vault.session import AppRoleSession

RECEIPT_KEY: Final = "stint-receipt"  # the transit key (ed25519) of the receipts. Only the API may sign with it
SMALL: Final = 64 * 1024  # bytes of a plaintext that is encrypted together with others: none waits for a large one


class Encryptor:
    """Encrypts with one transit key. Small plaintexts that come during a call are encrypted together by the next."""

    def __init__(self, session: AppRoleSession, key: str) -> None:
        self._session = session
        self._key = key
        self._batches = Batches(self._encrypt_all, alone=VaultRefusedError)

    async def encrypt(self, plaintext: bytes, *, associated_data: bytes = b"") -> str:
        """See `Vault.encrypt`."""
        text = (plaintext, associated_data)
        return await self._batches.ask(text) if len(plaintext) <= SMALL else (await self._encrypt_all([text]))[0]

    async def _encrypt_all(self, texts: Sequence[tuple[bytes, bytes]]) -> Sequence[str]:
        return await self._session.call(lambda own: self._session.vault.encrypt_all(own, self._key, texts))


class Signer:
    """Signs with one transit key of the type ed25519.

    Its methods raise VaultDeniedError without the right, and VaultNotFoundError or VaultRefusedError without the key.
    """

    def __init__(self, session: AppRoleSession, key: str) -> None:
        self._session = session
        self.key = key

    async def public_keys(self) -> Mapping[int, bytes]:
        """The public keys, 32 bytes each, of the versions that the key still has, the oldest first."""
        answer = await self._session.request(lambda client: client.secrets.transit.read_key(self.key))
        found = data_of(answer).get("keys") or {}
        try:
            keys = {int(version): base64.b64decode(entry["public_key"]) for version, entry in found.items()}
        except (KeyError, TypeError, ValueError):
            raise VaultRefusedError(f"The transit key {self.key} has no public keys.") from None
        return dict(sorted(keys.items()))

    async def sign(self, data: bytes, version: int) -> bytes:
        """The signature, 64 bytes, of these bytes by a version of the key."""
        encoded = base64.b64encode(data).decode()
        answer = await self._session.request(
            lambda client: client.secrets.transit.sign_data(self.key, hash_input=encoded, key_version=version)
        )
        scheme, _, value = str(data_of(answer).get("signature", "")).rpartition(":")
        if scheme != f"vault:v{version}":
            raise VaultRefusedError("Vault returned no signature by this version of the key.")
        return base64.b64decode(value)
