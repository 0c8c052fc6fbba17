"""JSON Web Tokens as NATS signs them: Ed25519, with the signer's nkey as the issuer.

The libraries for Python either lack the auth callout or are not kept, and the format is small.
"""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from stint.core.audit.signature import public_key_bytes
from stint.core.errors import UndecodableError

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}

Claims = Mapping[str, Any]


def signed(claims: Claims, seed: bytes) -> str:
    """The claims as a token that this seed's key issues now."""
    key = nkeys.from_seed(seed)
    whole = {**claims, "iss": key.public_key.decode(), "iat": int(time.time())}
    whole["jti"] = base64.b32encode(hashlib.sha256(_json(whole)).digest()).decode().rstrip("=")
    text = f"{_encoded(_json(_HEADER))}.{_encoded(_json(whole))}"
    return f"{text}.{_encoded(key.sign(text.encode()))}"


def verified(token: str) -> Claims:
    """The claims of a token that its issuer, whoever that is, has signed. Raises UndecodableError if it has not."""
    try:
        header, claims, signature = token.split(".")
        found = json.loads(_decoded(claims))
        key = VerifyKey(public_key_bytes(found["iss"]))
        key.verify(f"{header}.{claims}".encode(), _decoded(signature))
    except (ValueError, KeyError, TypeError, AttributeError, CryptoError):
        raise UndecodableError("Not a token that a NATS server signed.") from None
    return dict(found)


def public_key_of(seed: str, kind: str) -> str:
    """The public nkey of a seed. Raises ValueError unless it is of this kind: A for an account, U for a user."""
    try:
        key: str = nkeys.from_seed(seed.encode()).public_key.decode()
    except nkeys.NkeysError:
        key = ""
    if not key.startswith(kind):
        raise ValueError("not a seed of this kind")
    return key


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
