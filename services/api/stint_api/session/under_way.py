"""The cookie of a sign-in by OIDC that is under way: it binds the provider's answer to the browser that began. Pure."""

import base64
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec

from stint.core.codec import decode
from stint.core.errors import UndecodableError
from stint_api.session import cookie

SECONDS: Final = 600
"""How long a browser keeps the cookie. Vault may forget the sign-in sooner."""
LONGEST: Final = 2000
"""Characters of the address to come back to, so that the cookie is not too large for a browser."""


class UnderWay(msgspec.Struct, frozen=True):
    """A sign-in that has begun.

    Attributes:
        state: what the provider's answer must contain.
        nonce: see `stint.vault.OidcBegun`.
        to: the address that was asked for, below this API's.
    """

    state: str
    nonce: str
    to: str

    def is_meant(self, state: str) -> bool:
        """Whether an answer with this state is that to this sign-in."""
        return hmac.compare_digest(self.state.encode(), state.encode(errors="replace"))


def name(headers: Mapping[str, str]) -> str:
    """The cookie's name. Like the session's, it can be set by this host alone."""
    return f"{cookie.name(headers)}-oidc"


def found(headers: Mapping[str, str]) -> UnderWay | None:
    """The sign-in that this browser has begun, None if it has not."""
    text = cookie.sent(headers, name(headers))
    try:
        return decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), UnderWay)
    except (UndecodableError, ValueError):
        return None


def header(headers: Mapping[str, str], begun: UnderWay | None) -> str:
    """`Set-Cookie` for a sign-in, None for its end.

    It is `Lax`: the provider's answer is a link from another site.
    """
    text = base64.urlsafe_b64encode(msgspec.json.encode(begun)).rstrip(b"=").decode() if begun else ""
    seconds = SECONDS if begun else 0
    return f"{name(headers)}={text}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}"
