"""The xkeys of NATS: Curve25519, so that only the server and this service can read what they say to each other."""

import base64
import binascii
import os
from contextlib import suppress
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import UndecodableError

_SEED, _CURVE = 18 << 3, 23 << 3  # the kinds in the text of an nkey, which is base32: they read S and X
_LENGTH: Final = 2 + PrivateKey.SIZE + 2  # bytes of a seed: its kinds, the key, and a checksum
_VERSION: Final = b"xkv1"


def new_seed() -> str:
    """The seed of a new key."""
    return _text(bytes((_SEED | _CURVE >> 5, (_CURVE & 31) << 3)) + os.urandom(32))


class CurveKey:
    """A key, from its seed. Raises ValueError if the text is no such seed."""

    def __init__(self, seed: str) -> None:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        if not seed.startswith("SX") or len(raw) != _LENGTH or _text(raw[:-2]) != seed:
            raise ValueError("not the seed of a curve key")
        self._private = PrivateKey(raw[2:-2])
        # Its public half, for the server's configuration.
        self.public = _text(bytes((_CURVE,)) + bytes(self._private.public_key))

    def opened(self, data: bytes, sender: str) -> str:
        """Decrypt what the sender, a public key, has encrypted for this key. Raises UndecodableError if it has not."""
        version, nonce, text = data[:4], data[4:28], data[28:]
        if version == _VERSION:
            with suppress(ValueError, CryptoError):
                return self._box(sender).decrypt(text, nonce).decode()
        raise UndecodableError("The request is not encrypted for this service's key.")

    def sealed(self, text: str, receiver: str) -> bytes:
        """Encrypt for the receiver, a public key."""
        nonce = os.urandom(Box.NONCE_SIZE)
        return _VERSION + nonce + self._box(receiver).encrypt(text.encode(), nonce).ciphertext

    def _box(self, other: str) -> Box:
        return Box(self._private, PublicKey(public_key_bytes(other)))


def _text(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + checksum).decode().rstrip("=")
