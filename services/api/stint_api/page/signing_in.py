"""Signing in with a Vault token, and out again."""

from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from stint.core.errors import BrokerUnavailableError, StintError, VaultDeniedError, VaultError
from stint_api.errors import CLIENT_LEFT, NO_VAULT, JsonAnswer, RefusalError
from stint_api.middleware.gate import ENDED
from stint_api.page.documents import document
from stint_api.page.drawn.audit import Audited
from stint_api.page.drawn.jobs import Listed
from stint_api.routes.parameters import ServicesOf
from stint_api.session import cookie
from stint_api.session.store import Session

FORM_BYTES: Final = 16 * 1024
"""Bytes of a form: a token has at most a few hundred, and an address a few thousand."""
KNOWN: Final = frozenset({*Listed.names, *Audited.names, "after", "at"})
"""The parameters of the page's addresses. Nothing repeats others, in which somebody may have typed a token."""
THEMES: Final = frozenset({"light", "dark"})
UNSAFE: Final = (
    "Nobody can sign in here: a browser would send the token, and the session, in the clear. "
    "Use https, or reach the API on this machine's own loopback address."
)
REFUSED: Final = "Vault does not accept this token: it is wrong, has ended, or was revoked."
REVOKED: Final = "Vault does not know your token any more: it has ended or was revoked. Sign in again."
NO_NATS: Final = "NATS, which keeps the sessions, cannot be reached."
WRAP_TTL: Final = "24h"
"""How long a job that the page submits may wait in its queue."""
NO_SECRET_ID: Final = (
    "The token may not submit jobs from here: Vault gives it no wrapped secret id of {role}. "
    "The policy stint-client allows that."
)
_OURS: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses whose sentence is Stint's own, unless it has several lines: those are of Vault's client."""
FOREIGN: Final = "The form was not sent by this page. Load it again."
PROXIED: Final = (
    "The form reached the API under another address than the browser's, as one for {host}: a proxy in front of it must "
    "pass on Host as the browser sent it."
)

router = APIRouter(include_in_schema=False)


def theme(request: Request) -> str:
    """The colours that the browser was told to use, "" for the system's."""
    wanted = request.cookies.get("stint-theme", "")
    return wanted if wanted in THEMES else ""


def address(request: Request) -> str:
    """The address that was asked for, within this page, with the parameters that the page knows."""
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name in KNOWN])
    return f"{request.url.path}?{query}" if query else request.url.path


def sign_in_page(
    services: ServicesOf, request: Request, *, to: str = "", error: str = "", ended: bool = False
) -> Response:
    """The form, in the place of the page that was asked for."""
    settings = services.settings
    safe = cookie.is_trustworthy(request.headers)
    values = {
        "vault": settings.vault_external_addr or settings.vault_addr,
        "to": to or address(request),
        "error": error or (ENDED if ended else "") if safe else UNSAFE,
        "safe": safe,
        "oidc": settings.oidc_label if settings.oidc_role else "",
        "theme": theme(request),
    }
    headers = {"Set-Cookie": cookie.header(request.headers, "")} if ended else None
    return document("sign-in", values, status=HTTPStatus.UNAUTHORIZED, headers=headers)


@router.post("/session")
async def sign_in(services: ServicesOf, request: Request) -> Response:
    """Take a token, begin a session, and lead to the page that was asked for."""
    form = await form_of(request)
    to = own(form.get("to", ""))
    if not is_ours(request):
        proxied = cookie.comes_from_us(request.headers)  # as the browser tells, which knows no other address
        error = PROXIED.format(host=request.headers.get("host", "")) if proxied else FOREIGN
        return sign_in_page(services, request, to=to, error=error)
    token = form.get("token", "").strip()
    try:
        text = await begin_session(services, token, before=cookie.bound(request.headers))
    except StintError as error:
        return sign_in_page(services, request, to=to, error=sentence(error))
    headers = {"Set-Cookie": cookie.header(request.headers, text), "Cache-Control": "no-store"}
    answer = RedirectResponse(to, HTTPStatus.SEE_OTHER, headers)
    # The answer to a sign-in by OIDC that is under way would begin another session, and not know of this one.
    answer.headers.append("Set-Cookie", cookie.oidc_header(request.headers))
    return answer


async def begin_session(services: ServicesOf, token: str, *, before: str, revoke: bool = False) -> str:
    """Begin a session in the place of `before`, by `cookie.bound`, which ends; returns its cookie's value.

    `revoke`: see `Sessions`.
    """
    text = await services.sessions.begin(token, await services.lookups.fresh(token), revoke=revoke)
    if before:
        try:
            await services.sessions.end(before)
        except StintError:
            with suppress(StintError):  # nobody gets its cookie
                await services.sessions.end(cookie.key(text))
            raise
    return text


@router.post("/session/end")
async def sign_out(services: ServicesOf, request: Request) -> Response:
    """End the session, and with it all streams that it has open."""
    if text := proven(request, (await form_of(request)).get("csrf", "")):
        await services.sessions.end(cookie.key(text))
    headers = {"Set-Cookie": cookie.header(request.headers, ""), "Cache-Control": "no-store"}
    return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers)


@router.post("/session/secret-id")
async def secret_id(services: ServicesOf, request: Request) -> Response:
    """A wrapped secret id for a job that the page submits, made with the session's own token, as `stint run` does."""
    found = await proven_session(services, request, request.headers.get(cookie.CSRF, ""))
    if found is None:
        raise RefusalError(HTTPStatus.UNAUTHORIZED, ENDED)
    role = services.settings.role
    try:
        answer = await services.vault.call(
            found.token, lambda client: client.auth.approle.generate_secret_id(role, wrap_ttl=WRAP_TTL)
        )
    except VaultDeniedError:
        raise RefusalError(HTTPStatus.FORBIDDEN, NO_SECRET_ID.format(role=role)) from None
    return JsonAnswer({"wrap_secret_id": answer["wrap_info"]["token"]}, headers={"Cache-Control": "no-store"})


@router.get("/session")
async def session(services: ServicesOf, request: Request) -> Response:
    """Who is signed in, for the page's scripts. A session whose token Vault does not know any more ends here."""
    text = cookie.value(request.headers)
    ours = text and cookie.comes_from_us(request.headers)
    found = await services.sessions.find(text) if ours else None
    if found is None:
        raise RefusalError(HTTPStatus.UNAUTHORIZED, ENDED)
    try:
        await services.lookups.fresh(found.token)
    except RefusalError as refusal:
        if refusal.code != HTTPStatus.FORBIDDEN:
            raise
        await services.sessions.end(cookie.key(text))
        raise RefusalError(HTTPStatus.UNAUTHORIZED, REVOKED) from None
    return JsonAnswer({"who": found.who, "until": found.until.isoformat()}, headers={"Cache-Control": "no-store"})


def is_ours(request: Request) -> bool:
    """Whether a page of this API sent the request, as browsers tell."""
    return cookie.comes_from_us(request.headers) and cookie.names_us(request.headers)


def proven(request: Request, proof: str) -> str:
    """The cookie of the session whose page sent the request with its proof, "" if none did."""
    text = cookie.value(request.headers)
    return text if text and is_ours(request) and cookie.is_proof(text, proof) else ""


async def proven_session(services: ServicesOf, request: Request, proof: str) -> Session | None:
    """The session whose page sent the request with its proof, None if it has ended.

    Raises RefusalError if no page of this API sent it.
    """
    if text := proven(request, proof):
        return await services.sessions.find(text)
    if is_ours(request) and not cookie.value(request.headers):  # which is gone with the session
        return None
    raise RefusalError(HTTPStatus.FORBIDDEN, FOREIGN)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent. Raises RefusalError if it is too large, or its client left."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > FORM_BYTES:
                raise RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too large.")
    except ClientDisconnect:
        raise RefusalError(CLIENT_LEFT, "the form is not complete") from None
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def own(address: str) -> str:
    """The address if it is one of this page, else the first view's: a form must not lead to another site."""
    plain = address.isascii() and address.isprintable() and "\\" not in address
    return address if plain and address.startswith("/") and not address.startswith("//") else "/"


def sentence(error: StintError) -> str:
    """Why nobody was signed in."""
    if isinstance(error, RefusalError):
        return error.sentence if error.code in _OURS and "\n" not in error.sentence else REFUSED
    if isinstance(error, BrokerUnavailableError):
        return NO_NATS
    return NO_VAULT if isinstance(error, VaultError) else error.sentence
