"""Tars: of files, and block by block."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

END = bytes(1024)


def tar_of(
    files: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]],
    *,
    layout: int = tarfile.PAX_FORMAT,
    **attributes: Any,
) -> bytes:
    """A plain tar; `attributes` (mode, uid, …) go for all members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        for name, text in dict(files).items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def header(
    name: str = "x", *, kind: bytes = tarfile.REGTYPE, size: bytes = b"", magic: bytes = b"ustar\0" + b"00"
) -> bytes:
    """A block with this very size field."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[257:265] = magic
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def record(keyword: bytes, value: bytes) -> bytes:
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length += 1
    return str(length).encode() + rest


def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    data = b"".join(records)
    return header(kind=kind, size=b"%011o" % len(data)) + padded(data)


GNU = b"ustar  \0"
ONE_BLOCK = b"%011o" % 512
HIDDEN = header("gostint.yml", size=b"%011o" % 0)
"""In data of another member."""
