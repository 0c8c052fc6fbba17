"""A folder as a job's content."""

import base64
import gzip
import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from stint.core.errors import ConfigError
from stint.core.submission.payload import MAX_CONTENT


def pack(content: Path | str | BinaryIO) -> str:
    """`targz,<base64>` of a folder, or of a `.tar.gz` file as it is.

    The same folder always gives the same text. Everything belongs to root, and what its owner may read or execute here,
    every user may there: a job is not root. Symbolic links stay links.
    Raises ConfigError if it cannot be read, or is too large.
    """
    path = Path(content) if isinstance(content, Path | str) else None
    name = path or "the file"
    try:
        if path is None:
            packed = cast("BinaryIO", content).read(MAX_CONTENT + 1)
        else:
            packed = _folder(path) if path.is_dir() else _archive(path)
    except OSError as error:
        raise ConfigError(f"content: {error.filename or name} cannot be read: {error.strerror or error}.") from None
    if len(packed) > MAX_CONTENT:
        raise ConfigError(f"content: {name} is too large: at most {MAX_CONTENT // 1024 // 1024} MiB, compressed.")
    return f"targz,{base64.b64encode(packed).decode()}"


def _archive(path: Path) -> bytes:
    if not path.name.endswith(".tar.gz"):
        raise ConfigError(f"content: {path} is neither a folder nor a .tar.gz file.")
    with path.open("rb") as archive:
        return archive.read(MAX_CONTENT + 1)


class _FullError(Exception):
    """What is packed already is more than `MAX_CONTENT`."""


class _Packed(gzip.GzipFile):
    fileobj: io.BytesIO

    def write(self, data: Any) -> int:
        if self.fileobj.tell() > MAX_CONTENT:
            raise _FullError
        return super().write(data)


def _folder(path: Path) -> bytes:
    """The folder packed, or the first part of it, which is too large."""
    buffer = io.BytesIO()
    with (
        suppress(_FullError),
        _Packed(fileobj=buffer, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for found in sorted(_inside(path)):
            archive.add(found, arcname=f"./{found.relative_to(path).as_posix()}", recursive=False, filter=_for_a_job)
    return buffer.getvalue()


def _inside(folder: Path) -> Iterator[Path]:
    """All that is in it. `Path.rglob` would leave out what is in a folder that cannot be read, without a word."""
    folders = [folder]
    while folders:
        for found in folders.pop().iterdir():
            yield found
            if found.is_dir() and not found.is_symlink():
                folders.append(found)


def _for_a_job(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Sockets, devices and pipes are left out."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= (member.mode & 0o500) >> 3 | (member.mode & 0o500) >> 6
    member.mtime = int(member.mtime)
    return member
