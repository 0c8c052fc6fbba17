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


@cache
def assets() -> Assets:
    """The files in the folder `assets`."""
    folder = files("stint_api.page") / "assets"
    paths = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)
    whole, named = hashlib.sha256(), {}
    for path in paths:
        plain = path.read_bytes()
        whole.update(f"{path.name}\0{len(plain)}\0".encode() + plain)
        named[path.name] = Asset(TYPES[path.name[path.name.rindex(".") :]], plain, gzip.compress(plain, mtime=0))
    return Assets(whole.hexdigest()[:16], named)
