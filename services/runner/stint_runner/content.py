"""The submission's `content` field: a gzipped tar in base64, and the YAML documents that images and content carry."""

import base64
import binascii
import gzip
import io
import re
import tarfile
import zlib
from typing import Any, Final

import msgspec
import yaml

from stint.errors import JobFailedError
from stint.payload import MAX_CONTENT

MAX_UNPACKED: Final = 2**30
"""Bytes of the plain tar."""
MAX_MEMBERS: Final = 50_000
MAX_DOCUMENT: Final = 2**20
"""Bytes of a YAML document."""

_DOCUMENT_NAMES: Final = frozenset({"gostint.yml", "./gostint.yml"})
_MAX_GLOBAL_HEADERS: Final = 100
"""tarfile copies these for each member."""
_LINE_BREAKS: Final = {ord("\r"): None, ord("\n"): None}
"""Left out: the `base64` command wraps its lines."""
_STEP: Final = 2**20
_TAR_ERRORS: Final = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, RecursionError)
"""What tarfile was seen to raise on mutilated archives."""


class Manifest(msgspec.Struct, frozen=True):
    """What counts of `gostint.yml` (both fields) and `/gostint_image.yml` (only `secret_refs`)."""

    container_image: str | None = None
    secret_refs: tuple[str, ...] | None = None


class Content(msgspec.Struct, frozen=True):
    """Unpacked content.

    Attributes:
        archive: the plain tar, complete in memory, as `Engine.put_archive` takes it.
        manifest: its `gostint.yml`, empty if it has none.
    """

    archive: bytes
    manifest: Manifest

    def __repr__(self) -> str:
        return f"Content(size={len(self.archive)})"


def unpack(content: str) -> Content:
    """Decompress `targz,<base64>` and look through its tar. Members are not judged: the engine confines them.

    Takes seconds of processor for hundreds of megabytes: run it in a thread.

    Raises:
        JobFailedError: malformed, over 16 MiB packed, over 1 GiB unpacked, over 50,000 members, or a bad `gostint.yml`.
    """
    if content.count(",") != 1:
        raise _failed("Failed to parse invalid content")
    word, encoded = content.split(",")
    try:
        packed = base64.b64decode(encoded.translate(_LINE_BREAKS), validate=True)
    except (binascii.Error, ValueError):
        raise _failed("Failed to decode content base64: not standard base64") from None
    if word != "targz":
        raise _failed(f"Failed to extract content, unsupported archive format: {word}")
    if len(packed) > MAX_CONTENT:
        raise _failed(f"Failed to unzip content: over {MAX_CONTENT} bytes compressed")
    archive = _gunzip(packed)
    document = _scan(archive)
    return Content(archive, Manifest() if document is None else parse_manifest(document))


def parse_manifest(data: bytes, *, name: str = "gostint.yml", reason: str = "content") -> Manifest:
    """Read a manifest; unknown keys are ignored. For the image's: `name="gostint_image.yml", reason="image"`.

    Raises:
        JobFailedError: not such a document; the sentence starts with `Failed parsing yaml in <name>`.
    """
    document = yaml_mapping(data, name=name, reason=reason)
    try:
        return msgspec.convert(document, Manifest)
    except msgspec.ValidationError as error:
        raise JobFailedError(f"Failed parsing yaml in {name}: {error}", reason=reason) from None


def yaml_mapping(data: bytes, *, name: str = "gostint.yml", reason: str = "content") -> dict[str, Any]:
    """The first document of a YAML file, a mapping. An empty one is an empty mapping.

    Scalars stay text (null is None), no tag constructs anything, aliases are refused.

    Raises:
        JobFailedError: not YAML, not a mapping, or over 1 MiB. The sentence gives the place, never the text.
    """
    try:
        document = _load(data)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        fault = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "malformed"
    except _AliasError:
        fault = "an alias is not allowed"
    except (yaml.YAMLError, RecursionError):
        fault = "malformed"
    else:
        if isinstance(document, dict):
            return {key: value for key, value in document.items() if isinstance(key, str)}
        fault = "not a mapping"
    raise JobFailedError(f"Failed parsing yaml in {name}: {fault}", reason=reason)


def _gunzip(packed: bytes) -> bytes:
    if not packed:
        raise _failed("Failed to unzip content: unexpected end")
    unpacked = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            while piece := stream.read(_STEP):
                unpacked.write(piece)
                if unpacked.tell() > MAX_UNPACKED:
                    raise _failed(f"Failed to unzip content: over {MAX_UNPACKED} bytes")
    except EOFError:
        raise _failed("Failed to unzip content: unexpected end") from None
    except (gzip.BadGzipFile, zlib.error):
        raise _failed("Failed to unzip content: invalid data") from None
    return unpacked.getvalue()


def _scan(archive: bytes) -> bytes | None:
    """Check the tar's structure; returns its last `gostint.yml`, which is the one the engine leaves there."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            return _last_document(tar, archive)
    except _TAR_ERRORS as error:
        raise _failed(f"Failed content tar: {_fault(error)}") from None


def _last_document(tar: tarfile.TarFile, archive: bytes) -> bytes | None:
    document: bytes | None = None
    count = 0
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined] # the stubs lack it; kept, headers could fill the memory
        count += 1
        if count > MAX_MEMBERS:
            raise _failed(f"Failed content tar: over {MAX_MEMBERS} members")
        if member.size < 0 or len(tar.pax_headers) > _MAX_GLOBAL_HEADERS:
            raise tarfile.HeaderError("invalid header")
        if member.name in _DOCUMENT_NAMES:
            document = _document(tar, member)
    if archive[tar.offset : tar.offset + tarfile.BLOCKSIZE].strip(b"\0"):
        raise tarfile.HeaderError("invalid header")
    return document


def _document(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        return None
    if member.size > MAX_DOCUMENT:
        raise _failed(f"Failed parsing yaml in gostint.yml: over {MAX_DOCUMENT} bytes")
    return stream.read()


def _fault(error: Exception) -> str:
    return str(error) if isinstance(error, tarfile.TarError) else "invalid header"


def _failed(sentence: str) -> JobFailedError:
    return JobFailedError(sentence, reason="content")


class _AliasError(yaml.YAMLError):
    """A document has an alias."""


class _Loader(yaml.BaseLoader):
    """Scalars as text, null as None, and no aliases: those blow a small file up to any size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _AliasError
        return super().compose_node(parent, index)


def _none(_loader: yaml.BaseLoader, _node: yaml.Node) -> None:
    return None


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", _none)


def _load(data: bytes) -> Any:
    if len(data) > MAX_DOCUMENT:
        raise yaml.YAMLError
    loader = _Loader(data)
    try:
        return loader.get_data() if loader.check_node() else {}
    finally:
        loader.dispose()
