"""Signatures of events by those who publish them: the exact bytes, and how a signature is verified.

The key is an nkey of NATS (ed25519). It proves who wrote an event; what the event says remains its writer's claim.
"""

import base64
import binascii
import re
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

PREFIX: Final = b"\xffstint-signature-1\n"
"""What signed bytes begin with, so that no other signed text can be taken for them.

In particular not the nonce that a NATS server has each client sign with the same key: a nonce is text, and no text in
UTF-8 has the byte FF.
"""
MAX_BYTES: Final = 64 * 1024
"""Of a signed body. What is larger counts as not signed, so that nobody has to read megabytes to verify it."""
SIGNATURE_PATTERN: Final = r"^(U[A-Z2-7]{55})\.([A-Za-z0-9_-]{86})$"
"""Of a header: the public nkey, a point, and the signature in unpadded base64url."""
_SIGNATURE: Final = re.compile(SIGNATURE_PATTERN)
_USER: Final = 20 << 3
"""The first byte of a user's public nkey."""


class KeyOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is: who had the Vault token of the first login with it.

    Attributes:
        owner: a digest, the same for all tokens of an identity of Vault; for one without an identity, of this token.
        who: Vault's display name of that token.
        entity: id of the identity behind it, "" if there is none.
        accessor: that token's accessor, "" if it has none.
        at: when the key was last used to log in, within a day, in Unix seconds.
    """

    owner: str
    who: str = ""
    entity: str = ""
    accessor: str = ""
    at: int = 0


def signed_bytes(subject: str, body: bytes) -> bytes:
    """What is signed of a message. A subject contains no line feed, so that there is one way to read it."""
    return PREFIX + subject.encode() + b"\n" + body


def signature_text(nkey: str, signature: bytes) -> str:
    """A signature as a header says it: the public nkey, a point, and the signature in unpadded base64url."""
    return f"{nkey}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def named_signer(text: str, body: bytes) -> str:
    """The public nkey that a signature names, without a look at whether it is right; "" if it can be none."""
    found = _SIGNATURE.fullmatch(text)
    return found[1] if found and len(body) <= MAX_BYTES else ""


def verified_signer(text: str, subject: str, body: bytes) -> str:
    """The public nkey that has signed this body for this subject, "" if the signature is none or not right."""
    if not (signer := named_signer(text, body)):
        return ""
    try:
        signature = base64.urlsafe_b64decode(text[len(signer) + 1 :] + "==")
        VerifyKey(public_key_bytes(signer, _USER)).verify(signed_bytes(subject, body), signature)
    except (ValueError, CryptoError):
        return ""
    return signer


def public_key_bytes(text: str, kind: int | None = None) -> bytes:
    """The 32 bytes of the key in a public nkey that begins with the byte `kind`, if given. Raises ValueError if not."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:] or kind not in {None, raw[0]}:
        raise ValueError("not a public nkey")
    return raw[1:33]
