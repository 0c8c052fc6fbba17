"""The page's addresses. A view is drawn as its session may see it now; its scripts keep it up to date."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Request
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response

from stint.core.errors import StintError
from stint_api.auth import Identity
from stint_api.errors import RefusalError, refusal_of, unknown_path
from stint_api.page.documents import again, assets, document, file
from stint_api.page.drawn import fleet
from stint_api.page.drawn.audit import Audited
from stint_api.page.drawn.job import find as find_job
from stint_api.page.drawn.jobs import Listed
from stint_api.page.drawn.words import WORDS, duration
from stint_api.page.signing_in import REVOKED, address, sign_in_page, theme
from stint_api.routes.parameters import ServicesOf
from stint_api.services import Services
from stint_api.session import cookie
from stint_api.session.store import Session

router = APIRouter(include_in_schema=False)

Find = Callable[[Services, Identity], Awaitable[Any]]
"""Reads what a view shows at first."""


@router.get("/")
@router.get("/jobs")
async def jobs(services: ServicesOf, request: Request) -> Response:
    """The list of jobs. A search for a whole id leads to the job."""
    listed = Listed(request.query_params)
    if listed.job_id:
        return RedirectResponse(f"/jobs/{listed.job_id}", headers={"Cache-Control": "no-store"})
    return await show(services, request, "jobs", listed.find, listed=listed)


@router.get("/jobs/{job_id}")
async def job(services: ServicesOf, request: Request, job_id: str) -> Response:
    """One job. Scripts read its output themselves."""
    find = partial(find_job, job_id=job_id)
    return await show(services, request, "job", find, job_id=job_id, keep=services.settings.keep_payloads)


@router.get("/queues")
async def queues(services: ServicesOf, request: Request) -> Response:
    """The queues."""
    return await show(services, request, "queues", fleet.queues)


@router.get("/queues/{qname}")
async def queue(services: ServicesOf, request: Request, qname: str) -> Response:
    """One queue, by its name or its token, as in the API."""
    return await show(services, request, "queue", partial(fleet.queue, part=qname), queue=quote(qname, safe="="))


@router.get("/runners")
async def runners(services: ServicesOf, request: Request) -> Response:
    """The runners."""
    return await show(services, request, "runners", fleet.runners)


@router.get("/submit")
async def submit(services: ServicesOf, request: Request) -> Response:
    """A form for a job."""
    return await show(services, request, "submit")


@router.get("/audit")
async def audit(services: ServicesOf, request: Request) -> Response:
    """Who did what."""
    audited = Audited(request.query_params)
    return await show(services, request, "audit", audited.find, audited=audited)


@router.get("/assets/{digest}/{name}")
async def asset(digest: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A stylesheet, script or picture of this release; of another one there is none."""
    found = assets()
    if digest != found.digest or name not in found.named:
        return unknown_path()
    return file(found.named[name], accept_encoding)


@router.get("/favicon.ico")
async def favicon() -> Response:
    """What browsers ask for where a page names no icon, as for a job's output."""
    return RedirectResponse(assets().path("icon.svg"))


async def show(
    services: Services,
    request: Request,
    view: str,
    find: Find | None = None,
    refusal: RefusalError | None = None,
    **frame: object,
) -> Response:
    """The view. If `find` cannot read what it shows, it says why, as with `refusal` for something asked before."""
    headers = request.headers
    text = cookie.value(headers)
    if _from_elsewhere(headers) and not text:
        return again()
    session = await services.sessions.find(text) if text and not _from_elsewhere(headers) else None
    if session is None:
        return sign_in_page(services, request, ended=bool(text))
    found = None
    try:
        caller = await caller_of(services, session)
        if caller is None:
            await services.sessions.end(cookie.key(text))
            return sign_in_page(services, request, error=REVOKED, ended=True)
        found = await find(services, caller) if find else None
    except StintError as error:
        refusal = refusal_of(error)
    told = {"found": found, "refused": refusal.sentence if refusal else ""}
    values = _values(services, request, session, view) | frame | told
    status = refusal.code if refusal else HTTPStatus.OK
    return document(view, values, encodings=headers.get("accept-encoding", ""), status=status)


async def caller_of(services: Services, session: Session) -> Identity | None:
    """Who is signed in, None if Vault does not know the session's token any more."""
    try:
        return await services.auth.identify(session.token)
    except RefusalError as refusal:
        if refusal.code != HTTPStatus.FORBIDDEN:
            raise
        return None


def _from_elsewhere(headers: Headers) -> bool:
    """Whether another site led here, whose request has no cookie of ours."""
    return headers.get("sec-fetch-site") in {"cross-site", "same-site"}


def _values(services: ServicesOf, request: Request, session: Session, view: str) -> dict[str, object]:
    return {
        "view": view,
        "here": address(request),
        "theme": theme(request),
        "who": session.who,
        "until": session.until.isoformat(),
        "now": services.now().isoformat(timespec="milliseconds"),
        "csrf": cookie.proof(cookie.value(request.headers)),
        "retention": duration(services.settings.retention),
        "words": WORDS,
        "blank": defaultdict(str),  # a row without anything, which scripts copy
    }
