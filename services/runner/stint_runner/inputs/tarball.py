"""Reads a tar in one pass, with little memory, and so strictly that the engine finds the same members in it.

Python's `tarfile` keeps headers of any size, takes what others refuse, and lays extended headers out differently from
Go's `archive/tar`, which Docker reads with. Every header that the two would read differently is refused here.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

BLOCK: Final = tarfile.BLOCKSIZE
MAX_EXTENSION: Final = 2**20  # bytes of a header with a long name or attributes; also Docker's limit
MAX_GLOBAL: Final = 100  # global headers, and attributes in them
MAX_LINES: Final = 1_000_000  # in the extended headers of all members: each attribute has one, and takes a microsecond

_STEP: Final = 64 * 1024
_SIZE_FIELD: Final = slice(124, 136)
_SIZE: Final = re.compile(rb" *[0-7]*[ \0]*|\x80.*", re.DOTALL)  # octal, or binary behind its mark
_KIND_FIELD: Final = slice(156, 157)
_EXTENSIONS: Final = frozenset({tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_WITHOUT_DATA: Final = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE}
)
"""Kinds of members whose size does not count."""
_REGULAR: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_LENGTH: Final = re.compile(rb"([0-9]{1,7}) ")
_PAX_SIZE: Final = re.compile(rb"[0-9]{1,18}")


class Entry(NamedTuple):
    """A member of a tar. `regular` is a file with data, `size` that of its data."""

    name: str
    regular: bool
    size: int


class Tarball:
    """One pass over a tar."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """`read` gives so many bytes, fewer only at the end."""
        self._read = read
        self._begun = False
        self._left = 0
        self._global = 0
        self._lines = 0

    def entries(self) -> Iterator[Entry]:
        """The members, in their order. `data` gives that of the one that came last.

        Raises:
            tarfile.TarError: no tar, or one that two readers may read differently. ValueError: mutilated otherwise.
        """
        extensions: dict[bytes, bytes] = {}
        while (block := self._header()) is not None:
            header = _parsed(block)
            kind = block[_KIND_FIELD]
            if kind in _EXTENSIONS:
                if kind in extensions:
                    raise tarfile.HeaderError("invalid header")
                extensions[kind] = self._extension(header.size)
            elif kind == tarfile.XGLTYPE:
                self._pass_global(header.size, behind=extensions)
            else:
                yield self._entry(kind, header, extensions)
                extensions = {}
        if extensions:
            raise tarfile.HeaderError("missing header")

    def data(self, entry: Entry) -> bytes:
        """All data of the entry that came last. Once."""
        self._left -= entry.size
        return self._exactly(entry.size)

    def _header(self) -> bytes | None:
        """The next header, None at the end: two empty blocks, one, or none at all."""
        self._skip(self._left)
        block = self._read(BLOCK)
        if not block and not self._begun:
            raise tarfile.ReadError("empty file")
        self._begun = True
        if len(block) not in {0, BLOCK}:
            raise tarfile.ReadError("truncated header")
        if block.strip(b"\0"):
            return block
        if block and self._read(BLOCK) not in {b"", bytes(BLOCK)}:
            raise tarfile.HeaderError("invalid header")
        return None

    def _entry(self, kind: bytes, header: tarfile.TarInfo, extensions: dict[bytes, bytes]) -> Entry:
        records = _records(extensions.get(tarfile.XHDTYPE, b""))
        if kind == tarfile.GNUTYPE_SPARSE or any(keyword.startswith(b"GNU.sparse.") for keyword in records):
            raise tarfile.HeaderError("sparse files are not taken")
        name = _name(kind, header, records, extensions)
        size = _pax_size(records[b"size"]) if b"size" in records else header.size
        folder = kind == tarfile.AREGTYPE and name.endswith("/")
        if folder and size:
            raise tarfile.HeaderError("invalid header")  # readers differ on whether it has data
        self._left = 0 if kind in _WITHOUT_DATA else _padded(size)
        return Entry(name, kind in _REGULAR and not folder, size)

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION:
            raise tarfile.HeaderError("invalid header")
        data = self._exactly(_padded(size))[:size]
        self._lines += data.count(b"\n")
        if self._lines > MAX_LINES:
            raise tarfile.HeaderError("too many attributes")
        return data

    def _pass_global(self, size: int, *, behind: dict[bytes, bytes]) -> None:
        """Attributes of all further members, which Docker does not look at."""
        self._global += 1 + len(_records(self._extension(size)))
        if self._global > MAX_GLOBAL or behind:
            raise tarfile.HeaderError("invalid header")

    def _skip(self, size: int) -> None:
        for start in range(0, size, _STEP):
            self._exactly(min(_STEP, size - start))
        self._left = 0

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise tarfile.ReadError("unexpected end of data")
        return data


def _parsed(block: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if header.size < 0 or not _SIZE.fullmatch(block[_SIZE_FIELD]):
        raise tarfile.HeaderError("invalid header")
    return header


def _name(
    kind: bytes, header: tarfile.TarInfo, records: Mapping[bytes, bytes], extensions: Mapping[bytes, bytes]
) -> str:
    """The name as Docker has it."""
    long_name = extensions.get(tarfile.GNUTYPE_LONGNAME, b"").partition(b"\0")[0] or records.get(b"path", b"")
    if long_name:
        return long_name.decode("utf-8", "surrogateescape")
    cut = kind == tarfile.AREGTYPE and header.isdir()  # frombuf removed the slash
    return f"{header.name}/" if cut else header.name


def _records(data: bytes) -> dict[bytes, bytes]:
    """The attributes of an extended header: length, space, keyword, `=`, value, line end; the length is that of all."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        length = _LENGTH.match(data, position)
        end = position + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise tarfile.HeaderError("invalid header")
        keyword, equals, value = data[length.end() : end - 1].partition(b"=")
        if not (keyword and equals):
            raise tarfile.HeaderError("invalid header")
        found[keyword] = value
        position = end
    return found


def _pax_size(value: bytes) -> int:
    if not _PAX_SIZE.fullmatch(value):
        raise tarfile.HeaderError("invalid header")
    return int(value)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
