"""Checks receipts, without any server."""

import base64
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from stint.core.audit.receipt import KeyName, Receipt, parse_receipt
from stint.core.errors import StintError, UndecodableError


class PublicKeys(msgspec.Struct, frozen=True):
    """The public keys of all versions of the key that signs receipts, in base64 by version, as the API gives them."""

    name: str
    keys: Mapping[int, str]


class ForgedReceiptError(StintError):
    """The signature does not fit: the receipt was changed, or was not signed by this key."""


class UnknownKeyError(StintError):
    """The receipt was signed by a key that is not among the public keys."""


def check_receipt(data: bytes, keys: PublicKeys) -> Receipt:
    """The receipt, if one of these keys signed exactly these bytes.

    Raises UndecodableError if it is none, UnknownKeyError if another key signed it, ForgedReceiptError if no key did.
    """
    # 20 ms: whoever imports the client must not wait for it.
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415
    from nacl.signing import VerifyKey  # noqa: PLC0415

    receipt = parse_receipt(data)
    key, public = receipt.key, None
    with suppress(KeyError, ValueError):  # no such version, or not base64
        public = base64.b64decode(keys.keys[key.version], validate=True)
    if public is None or KeyName.of(keys.name, key.version, public) != key:
        raise UnknownKeyError(
            f"The receipt names version {key.version} of the key {key.name}, sha256 {key.sha256}, which is not among "
            "the public keys. `stint receipt --public-key` fetches those of your Stint."
        )
    try:
        VerifyKey(public).verify(receipt.signed, receipt.signature)
    except BadSignatureError:
        raise ForgedReceiptError from None
    except ValueError:
        raise UndecodableError("A public key of ed25519 has 32 bytes.") from None
    return receipt
