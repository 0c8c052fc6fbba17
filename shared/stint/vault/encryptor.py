"""Encryption with a service's own token."""

from collections.abc import Sequence
from typing import Final

from stint.core.errors import VaultRefusedError
from stint.process.batches import Batches
from stint.vault.client import Vault
from stint.vault.session import AppRoleSession

SMALL: Final = 64 * 1024  # bytes of a plaintext that is encrypted together with others: none waits for a large one


class Encryptor:
    """Encrypts with one transit key. Small plaintexts that come during a call are encrypted together by the next."""

    def __init__(self, vault: Vault, session: AppRoleSession, key: str) -> None:
        self._vault = vault
        self._session = session
        self._key = key
        self._batches = Batches(self._encrypt_all, alone=VaultRefusedError)

    async def encrypt(self, plaintext: bytes, *, associated_data: bytes = b"") -> str:
        """See `Vault.encrypt`."""
        text = (plaintext, associated_data)
        return await self._batches.ask(text) if len(plaintext) <= SMALL else (await self._encrypt_all([text]))[0]

    async def _encrypt_all(self, texts: Sequence[tuple[bytes, bytes]]) -> Sequence[str]:
        return await self._session.call(lambda own: self._vault.encrypt_all(own, self._key, texts))
