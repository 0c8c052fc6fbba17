"""The session's cookie, and the conditions under which a request may use it. Pure."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import cookie_parser

CSRF: Final = "x-stint-csrf"
"""The header with the proof that a request which changes something comes from the page."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def name(headers: Mapping[str, str]) -> str:
    """The cookie's name. It contains the port, if the address has one: the ports of a host share their cookies."""
    port = headers.get("host", "").rpartition("]")[2].rpartition(":")[2]
    return f"__Host-stint-{port}" if port.isdecimal() else "__Host-stint"


def value(headers: Mapping[str, str]) -> str:
    """The cookie's value in a request, "" if there is none that the API can have made."""
    found = sent(headers, name(headers))
    return found if _VALUE.fullmatch(found) else ""


def sent(headers: Mapping[str, str], named: str) -> str:
    """The value of any cookie in a request, "" if there is none.

    All services on a host get each other's cookies: one that no standard allows must not hide ours, as it would with
    `SimpleCookie`.
    """
    return cookie_parser(headers.get("cookie", "")).get(named, "")


def header(headers: Mapping[str, str], text: str) -> str:
    """`Set-Cookie` for a new session, "" for the end of one. Scripts do not see it, other sites do not send it."""
    end = "" if text else "; Max-Age=0"
    return f"{name(headers)}={text}; Path=/; Secure; HttpOnly; SameSite=Strict{end}"


def oidc_name(headers: Mapping[str, str]) -> str:
    """The name of the cookie of a sign-in by OIDC. Like the session's, it can be set by this host alone."""
    return f"{name(headers)}-oidc"


def oidc_header(headers: Mapping[str, str], text: str = "", seconds: int = 0) -> str:
    """`Set-Cookie` for a sign-in by OIDC that begins, by default for its end.

    It is `Lax`: the provider's answer is a link from another site.
    """
    return f"{oidc_name(headers)}={text}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}"


def key(text: str) -> str:
    """The name under which a session is kept. The cookie cannot be found from it."""
    return hashlib.sha256(text.encode()).hexdigest()


def bound(headers: Mapping[str, str]) -> str:
    """The `key` of the session whose cookie a request has, "" if it has none."""
    return key(text) if (text := value(headers)) else ""


def proof(text: str) -> str:
    """What the page sends in the header `CSRF`: known only to who has read the page of this session."""
    return hmac.new(text.encode(), b"stint csrf", hashlib.sha256).hexdigest()


def is_proof(text: str, shown: str) -> bool:
    """Whether `shown` is the proof of this session."""
    return hmac.compare_digest(proof(text).encode(), shown.encode(errors="replace"))


def is_trustworthy(headers: Mapping[str, str]) -> bool:
    """Whether the browser reached this API by TLS or on loopback: only then does it send `Sec-Fetch-Site`."""
    return "sec-fetch-site" in headers


def comes_from_us(headers: Mapping[str, str]) -> bool:
    """Whether a page of this API made the request, not another site, and not a person by an address."""
    return headers.get("sec-fetch-site") == "same-origin"


def names_us(headers: Mapping[str, str]) -> bool:
    """Whether `Origin`, which browsers send with each change, is this API's own address."""
    try:
        return bool(headers.get("host")) and urlsplit(headers.get("origin", "")).netloc == headers.get("host")
    except ValueError:  # no address at all, such as `http://[`
        return False
