"""The page's files. Their address contains a digest of them all, so that browsers may keep them."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

TYPES: Final[Mapping[str, str]] = {
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
    """Without what only readers of the source need: comments, and indentation.

    No string of ours goes over a line's end, so that lines begin with code.
    """
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
        named[path.name] = Asset(TYPES[path.name[path.name.rindex(".") :]], plain, gzip.compress(plain, mtime=0))
    return Assets(whole.hexdigest()[:16], named)
