"""The page for browsers at /docs: Swagger UI, whose files come from the package `fastapi-offline`."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, Response

from stint_api.errors import unknown_path

FILES: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
DOCUMENT: Final = "/v1/api/openapi.json"
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(prefix="/docs", include_in_schema=False)


@router.get("")
async def page() -> Response:
    """The API's reference, in which requests can be tried out with a token."""
    return _page()


@router.get("/{name}")
async def file(name: str) -> Response:
    """One of the files that the page loads."""
    if name not in FILES:
        return unknown_path()
    return FileResponse(str(files("fastapi_offline") / "static" / name), headers={"X-Content-Type-Options": "nosniff"})


@cache
def _page() -> Response:
    bundle, style, icon = (f"{router.prefix}/{name}" for name in FILES)
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
