"""Pages made of templates, the files that they load, and the headers of both.

The address of a file contains a digest of them all, so that browsers may keep them.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

import stint
from stint_api.page.drawn.words import named
from stint_api.web.streaming import takes_gzip, zipped

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFETY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "clipboard-write=(self)",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Nothing from elsewhere, no script in a page's text, no page inside another site's.

Not `no-referrer`: browsers would then send forms without their `Origin`.
"""
_INERT: Final[Mapping[str, str]] = {"Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
"""Of a file, which is for our pages only. Each view loads a dozen, and headers are not compressed."""
_NO_PAGE: Final[Mapping[str, str]] = {"Content-Security-Policy": "sandbox"}
"""Of a picture, which a browser could show as a page of its own."""
_FOR_EVER: Final = "max-age=31536000, immutable"
_SHEETS: Final[Mapping[str, Sequence[str]]] = {
    "job": ["detail", "job"],
    "queue": ["detail", "queue"],
    "queues": ["fleet"],
    "runners": ["fleet"],
    "submit": ["form"],
    "ask": ["form"],
    "sign-in": ["form"],
}
"""What a view has besides `base`: by default one stylesheet of its own name."""

_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_IMPORT: Final = re.compile(r'^(?:import|export) [^;]*?from "\./([\w-]+\.js)"', re.MULTILINE | re.DOTALL)
_CSS_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_SPACE: Final = re.compile(r"\s*([{};,>])\s*|(?<=[\w-]:) ")
_JS_COMMENT: Final = re.compile(
    r"^[ ]*(?://[^\n]*|/\*\*.*?\*/)\n|(?<=[;{},]) +// [^\n'\"`]*$", re.MULTILINE | re.DOTALL
)
_INDENTATION: Final = re.compile(r"^\s+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, as it is and compressed."""

    media_type: str
    plain: bytes
    zipped: bytes


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by name, and the digest that their addresses contain."""

    digest: str
    named: Mapping[str, Asset]

    def path(self, name: str) -> str:
        """The address of a file."""
        return f"/assets/{self.digest}/{name}"

    def modules(self, name: str) -> list[str]:
        """A script and all that it imports, for the browser to fetch at once."""
        found = [name]
        for module in found:
            imported = _IMPORT.findall(self.named[module].plain.decode())
            found += [other for other in dict.fromkeys(imported) if other not in found]
        return found


def _lean(name: str, text: str) -> str:
    """Without comments and indentation. No string of ours goes over a line's end, so that lines begin with code."""
    if name.endswith(".css"):
        text = _CSS_SPACE.sub(r"\1", _CSS_COMMENT.sub("", text))
    elif name.endswith(".js"):
        text = _JS_COMMENT.sub("", text)
    return _INDENTATION.sub("", text)


@cache
def assets() -> Assets:
    """The files in the folder `assets`."""
    folder = files("stint_api.page") / "assets"
    paths = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)
    whole, named = hashlib.sha256(), {}
    for path in paths:
        plain = _lean(path.name, path.read_text(encoding="utf-8")).encode()
        whole.update(f"{path.name}\0{len(plain)}\0".encode() + plain)
        named[path.name] = Asset(_TYPES[path.name[path.name.rindex(".") :]], plain, gzip.compress(plain, mtime=0))
    return Assets(whole.hexdigest()[:16], named)


def _shown(value: object) -> object:
    """What a template puts into a page: see `named`. A script's data, and a field's value, are exact with `| e`."""
    return named(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("stint_api.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def document(
    view: str,
    values: Mapping[str, Any],
    *,
    encodings: str = "",
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A page, compressed if the client accepts that. Browsers do not keep it.

    That gives nobody the session's proof by its length: requests of other sites get no page of a session.
    """
    found = assets()
    favicon = quote(found.named["icon.svg"].plain)
    sheets = [f"{name}.css" for name in ("base", *_SHEETS.get(view, [view]))]
    shared = {"assets": found, "favicon": favicon, "sheets": sheets, "release": stint.__version__}
    text = _templates().get_template(f"{view}.html").render(values, **shared)
    answer = HTMLResponse(text, status, {**SAFETY, "Cache-Control": "no-store", **(headers or {})})
    return zipped(answer, encodings)


def file(asset: Asset, encodings: str) -> Response:
    """A file, compressed if the client accepts that."""
    short = takes_gzip(encodings)
    picture = _NO_PAGE if asset.media_type.startswith("image/") else {}
    headers = {**_INERT, **picture, "Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
    if short:
        headers["Content-Encoding"] = "gzip"
    return Response(asset.zipped if short else asset.plain, media_type=asset.media_type, headers=headers)


def again(to: str = "") -> Response:
    """Sends the browser to the same address once more, or to another one of ours.

    A link from another site brings no cookie; what a page of ours asks for does.
    """
    headers = {**SAFETY, "Cache-Control": "no-store", "Refresh": f"0; url={to}" if to else "0"}
    return HTMLResponse("<!doctype html><title>Stint</title>", headers=headers)
