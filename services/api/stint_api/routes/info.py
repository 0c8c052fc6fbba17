"""The routes that need no token: health, metrics, where Vault is, the API reference, and the way to the page."""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from stint.process.health import healthz
from stint_api.errors import INVALID_REQUEST, RefusalError, unknown_path
from stint_api.read.runners import summary
from stint_api.routes.models.base import SHOWN
from stint_api.routes.models.fleet import HealthBody, VaultInfoBody
from stint_api.routes.parameters import ServicesOf
from stint_api.routes.responses import BAD_HEALTH_KEY, Responses, content, described, errors

_NOT_READY: Final[Responses] = {
    503: {
        "description": "The API cannot do its work; the text says what is missing.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}

FILES: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
DOCUMENT: Final = "/v1/api/openapi.json"
DOCS: Final = "/docs"
"""Swagger UI, whose files come from the package `fastapi-offline`."""
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(tags=["service"])


@router.get(
    "/v1/api/health",
    response_model=HealthBody,
    responses=described([BAD_HEALTH_KEY]) | errors(503) | content("text/plain", "3"),
)
async def health(
    services: ServicesOf,
    k: Annotated[str | None, Query(description="Only the value of this key, as plain text.")] = None,
) -> Mapping[str, str] | Response:
    """Counts of jobs and figures of the runners' engines, all as text; `k` selects one value."""
    counts = (await services.index.counts()).by_status
    figures = {
        "state": "draining" if services.closing.is_set() else "active",
        "all_jobs": str(sum(counts.values())),
        **{f"{state}_jobs": str(counts.get(state, 0)) for state in SHOWN},
        "unserved_jobs": str(await services.unserved()),
        **summary(await services.runners.read()),
    }
    if k is None:
        return figures
    if k not in figures:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "Invalid health metric key", title=INVALID_REQUEST)
    return PlainTextResponse(figures[k])


@router.get("/v1/api/vault/info")
async def vault_info(services: ServicesOf) -> VaultInfoBody:
    """The address of Vault, for clients."""
    settings = services.settings
    external = settings.vault_external_addr or settings.vault_addr
    return VaultInfoBody(vault_addr=settings.vault_addr, vault_external_addr=external)


@router.get("/v1/api/metrics", response_class=Response, responses=content(CONTENT_TYPE_PLAIN_0_0_4, ""))
async def metrics(services: ServicesOf) -> Response:
    """Metrics of this process, in the text format of Prometheus."""
    return await services.metrics.endpoint()


@router.get("/readyz", response_class=Response, responses=content("text/plain", "ready\n") | _NOT_READY)
async def readyz(services: ServicesOf, request: Request) -> Response:
    """Whether the API can do its work; if not, a 503 says what is missing. Further lines name what fails meanwhile."""
    return await services.readyz(request)


@router.get("/login", status_code=HTTPStatus.MOVED_PERMANENTLY, response_class=Response)
async def login() -> Response:
    """The page is at `/`."""
    return RedirectResponse("/", status_code=HTTPStatus.MOVED_PERMANENTLY)


router.get("/healthz", response_class=Response, responses=content("text/plain", "ok\n"))(healthz)


@router.get(DOCS, include_in_schema=False)
async def page() -> Response:
    """The API's reference, in which requests can be tried out with a token."""
    return _page()


@router.get(f"{DOCS}/{{name}}", include_in_schema=False)
async def file(name: str) -> Response:
    """One of the files that the page loads."""
    if name not in FILES:
        return unknown_path()
    return FileResponse(str(files("fastapi_offline") / "static" / name), headers={"X-Content-Type-Options": "nosniff"})


@cache
def _page() -> Response:
    bundle, style, icon = (f"{DOCS}/{name}" for name in FILES)
    found = get_swagger_ui_html(
        openapi_url=DOCUMENT,
        title="Stint",
        swagger_js_url=bundle,
        swagger_css_url=style,
        swagger_favicon_url=icon,
        swagger_ui_parameters={"validatorUrl": None},
    )
    digests = (hashlib.sha256(script).digest() for script in _SCRIPT.findall(bytes(found.body)))
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    found.headers["Content-Security-Policy"] = (
        # Swagger UI sets styles on its elements, and its stylesheet has pictures in `data:` addresses.
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return found
