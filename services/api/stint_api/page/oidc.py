"""Signing in at an OIDC provider, which sends the browser back with a code that Vault exchanges for a token.

A cookie of the sign-in that is under way binds the provider's answer to the browser that began.
"""

import base64
import hmac
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from stint.core.codec import decode
from stint.core.errors import StintError, UndecodableError, VaultError, VaultUnavailableError
from stint.vault import Oidc, refusal_by_provider
from stint_api.errors import NO_VAULT, unknown_path
from stint_api.page.documents import SAFETY, again
from stint_api.page.signing_in import begin_session, own, sentence, sign_in_page
from stint_api.routes.parameters import ServicesOf
from stint_api.session import cookie

SECONDS: Final = 600
"""How long a browser keeps the cookie. Vault may forget the sign-in sooner."""
LONGEST: Final = 2000
"""Characters of the address to come back to, so that the cookie is not too large for a browser."""
PATH: Final = "/sign-in/oidc"
CALLBACK: Final = "/sign-in/oidc/callback"
NOT_BEGUN: Final = (
    "This browser has not begun the sign-in that the provider answers, or has ended it or signed in since, or it was "
    "begun more than ten minutes ago. Sign in again."
)
NOT_SET_UP: Final = "Vault's sign-in by OIDC is not set up for this address, {address}: {reason}"
REFUSED: Final = "Vault did not accept the provider's answer: {reason} Sign in again."
PROVIDER: Final = "The provider did not sign you in: {reason}"

router = APIRouter(include_in_schema=False)


class UnderWay(msgspec.Struct, frozen=True):
    """A sign-in that has begun.

    Attributes:
        state: what the answer must contain.
        nonce: Vault's.
        to: the address asked for.
        before: `cookie.bound` of the browser, which sends no `Strict` cookie with the answer. A browser could
            send anything here, even a pattern of keys.
    """

    state: str
    nonce: str
    to: str
    before: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]


@router.get(PATH)
async def begin(services: ServicesOf, request: Request, to: str = "/") -> Response:
    """Lead to the provider, if a page of ours asks for that: another site must not sign anybody in."""
    to, address = own(to) if len(to) <= LONGEST else "/", callback_address(request)
    if services.oidc is None:
        return unknown_path()
    if not cookie.comes_from_us(request.headers):
        return sign_in_page(services, request, to=to)
    try:
        begun = await services.oidc.begin(address)
    except VaultError as error:
        return sign_in_page(services, request, to=to, error=_words(NOT_SET_UP, error, address=address))
    under_way = UnderWay(begun.state, begun.nonce, to, cookie.bound(request.headers))
    text = base64.urlsafe_b64encode(msgspec.json.encode(under_way)).rstrip(b"=").decode()
    kept = cookie.oidc_header(request.headers, text, SECONDS)
    headers = {**SAFETY, "Set-Cookie": kept, "Cache-Control": "no-store"}
    return RedirectResponse(begun.url, HTTPStatus.SEE_OTHER, headers)


@router.get(CALLBACK)
async def callback(services: ServicesOf, request: Request) -> Response:
    """Take the provider's answer, begin a session, and lead to the page that was asked for."""
    if services.oidc is None:
        return unknown_path()
    begun, state = _under_way(request.headers), request.query_params.get("state", "")
    if begun is None or not hmac.compare_digest(begun.state.encode(), state.encode(errors="replace")):
        return sign_in_page(services, request, to="/", error=NOT_BEGUN)
    answer = await _answer(services, services.oidc, request, begun)
    answer.headers.append("Set-Cookie", cookie.oidc_header(request.headers))
    return answer


async def _answer(services: ServicesOf, oidc: Oidc, request: Request, begun: UnderWay) -> Response:
    to, query = own(begun.to), request.query_params
    if reason := refusal_by_provider(query):
        return sign_in_page(services, request, to=to, error=PROVIDER.format(reason=reason))
    try:
        login = await oidc.finish(begun.state, begun.nonce, query.get("code", ""))
    except VaultError as error:
        return sign_in_page(services, request, to=to, error=_words(REFUSED, error))
    try:
        text = await begin_session(services, login.token, before=begun.before, revoke=True)
    except StintError as error:
        with suppress(VaultError):  # no session has the token; should Vault be away, it expires by itself
            await services.vault.revoke_self(login.token)
        return sign_in_page(services, request, to=to, error=sentence(error))
    answer = again(to)
    answer.headers.append("Set-Cookie", cookie.header(request.headers, text))
    return answer


def _under_way(headers: Mapping[str, str]) -> UnderWay | None:
    text = cookie.sent(headers, cookie.oidc_name(headers))
    try:
        return decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), UnderWay)
    except (UndecodableError, ValueError):
        return None


def _words(form: str, error: VaultError, **more: str) -> str:
    """The error for whoever signs in. Vault's reasons name no code and no token."""
    if isinstance(error, VaultUnavailableError):
        return NO_VAULT
    return form.format(reason=f"{'; '.join(error.errors).rstrip('.') or error.sentence.rstrip('.')}.", **more)


def callback_address(request: Request) -> str:
    """`CALLBACK` as the browser reaches it.

    A browser that may sign in (`cookie.is_trustworthy`) has come by TLS, which a proxy may have ended, or to loopback.
    """
    host = request.headers.get("host", "")
    return f"{request.url.scheme if _is_loopback(host) else 'https'}://{host}{CALLBACK}"


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    return False
