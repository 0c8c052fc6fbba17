"""The payload's `content` field, a gzipped tar in base64, and the YAML documents in content and images."""

import base64
import gzip
import io
import re
import tarfile
import zlib
from typing import Any, Final

import msgspec
import yaml

from stint.core.errors import JobFailedError
from stint.core.submission.payload import MAX_CONTENT
from stint_runner.inputs.tarball import Tarball

MAX_UNPACKED: Final = 2**30  # bytes of the plain tar
MAX_MEMBERS: Final = 50_000
MAX_DOCUMENT: Final = 128 * 1024  # bytes of a YAML document: enough for as many secret references as a job may have
MAX_NODES: Final = 4096  # values in a YAML document, each of which takes half a kilobyte and some microseconds to read

_DOCUMENT_NAMES: Final = frozenset({"gostint.yml", "./gostint.yml"})
_FORMAT: Final = re.compile(r"[a-z0-9.]{1,8}", re.ASCII)
_STEP: Final = 64 * 1024
_TAR_ERRORS: Final = (tarfile.TarError, ValueError, OverflowError, IndexError)  # what tarfile raises on broken headers


class Manifest(msgspec.Struct, frozen=True):
    """The fields of `gostint.yml`, and of `/gostint_image.yml`, of which only `secret_refs` counts."""

    container_image: str | None = None
    secret_refs: tuple[str, ...] | None = None


class Content(msgspec.Struct, frozen=True):
    """Content that was checked: the gzipped tar as it was submitted, and its `gostint.yml`, empty if it has none."""

    archive: bytes
    manifest: Manifest

    def __repr__(self) -> str:
        return f"Content(size={len(self.archive)})"


def check_content(content: str) -> Content:
    """Check the tar of `targz,<base64>`, unpacking a piece at a time.

    The engine confines the members' paths. It unpacks what was checked: the gzip is whole, followed by nothing but
    zeros, and `stint_runner.inputs.tarball` refuses headers that the engine might read differently.

    Hundreds of megabytes take seconds of processor time: run it in a thread.

    Raises:
        JobFailedError: malformed, over 16 MiB packed, over 1 GiB unpacked, over 50,000 members, or a bad `gostint.yml`.
    """
    packed = _decoded(content)
    document = _checked(packed)
    return Content(packed, Manifest() if document is None else parse_manifest(document))


def parse_manifest(data: bytes, *, name: str = "gostint.yml", reason: str = "content") -> Manifest:
    """Read a manifest; unknown keys are ignored. For the image's: `name="gostint_image.yml", reason="image"`.

    Raises JobFailedError if it is not YAML, too large, or any other document. The sentence starts with `Failed parsing
    yaml in <name>`, and gives the place, never the text.
    """
    try:
        manifest = msgspec.convert(yaml_mapping(data), Manifest)
        "".join([manifest.container_image or "", *(manifest.secret_refs or ())]).encode()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        fault = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "malformed"
    except (_RefusedError, msgspec.ValidationError) as error:
        fault = str(error)
    except UnicodeEncodeError:  # the escape of half a character, which no event can hold
        fault = "a text is not Unicode"
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):  # the last two: an escape beyond Unicode
        fault = "malformed"
    else:
        return manifest
    raise JobFailedError(f"Failed parsing yaml in {name}: {fault}", reason=reason)


def _decoded(content: str) -> bytes:
    if content.count(",") != 1:
        raise _failed("Failed to parse invalid content")
    word, _, encoded = content.partition(",")
    encoded = encoded.replace("\r", "").replace("\n", "")  # the `base64` command wraps its lines
    try:
        packed = base64.b64decode(encoded, validate=True)
    except ValueError:  # among them base64's own
        raise _failed("Failed to decode content base64: not standard base64") from None
    if word != "targz":
        named = word if _FORMAT.fullmatch(word) else ""  # anything else may be a secret in the wrong place
        raise _failed(f"Failed to extract content, unsupported archive format: {named}")
    if len(packed) > MAX_CONTENT:
        raise _failed(f"Failed to unzip content: over {MAX_CONTENT} bytes compressed")
    return packed


class _Plain:
    """The plain bytes of a gzip, whose faults are raised as the job's."""

    def __init__(self, packed: bytes) -> None:
        if not packed:
            raise _failed("Failed to unzip content: unexpected end")
        self._file = gzip.GzipFile(fileobj=io.BytesIO(packed))
        self._size = 0

    def read(self, size: int) -> bytes:
        """Read so many bytes, fewer only at the end."""
        try:
            data = self._file.read(size)
        except EOFError:
            raise _failed("Failed to unzip content: unexpected end") from None
        except (gzip.BadGzipFile, zlib.error):
            raise _failed("Failed to unzip content: invalid data") from None
        self._size += len(data)
        if self._size > MAX_UNPACKED:
            raise _failed(f"Failed to unzip content: over {MAX_UNPACKED} bytes")
        return data

    def drain(self) -> None:
        """Read to the end, where the gzip's checksum is."""
        while self.read(_STEP):
            pass


def _checked(packed: bytes) -> bytes | None:
    """Check gzip and tar; returns the last `gostint.yml`, which is the one that the engine keeps."""
    plain = _Plain(packed)
    try:
        document = _last_document(Tarball(plain.read))
    except _TAR_ERRORS as error:
        plain.drain()  # if the gzip is broken, too, report that
        fault = str(error) if isinstance(error, tarfile.TarError) else "invalid header"
        raise _failed(f"Failed content tar: {fault}") from None
    plain.drain()
    return document


def _last_document(tar: Tarball) -> bytes | None:
    document: bytes | None = None
    for number, entry in enumerate(tar.entries(), start=1):
        if number > MAX_MEMBERS:
            raise _failed(f"Failed content tar: over {MAX_MEMBERS} members")
        if entry.name in _DOCUMENT_NAMES:
            if entry.regular and entry.size > MAX_DOCUMENT:
                raise _failed(f"Failed parsing yaml in gostint.yml: over {MAX_DOCUMENT} bytes")
            document = tar.data(entry) if entry.regular else None
    return document


def _failed(sentence: str) -> JobFailedError:
    return JobFailedError(sentence, reason="content")


class _RefusedError(yaml.YAMLError):
    """A document has what is YAML, but not allowed. The message says what."""


class _Loader(yaml.BaseLoader):
    """Scalars as text, null as None, and no aliases, which can expand a small file to any size."""

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _RefusedError(f"over {MAX_NODES} values")
        if self.check_event(yaml.AliasEvent):
            raise _RefusedError("an alias is not allowed")
        return super().compose_node(parent, index)


def _none(_loader: yaml.BaseLoader, _node: yaml.Node) -> None:
    return None


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", _none)


def yaml_mapping(data: bytes) -> dict[str, Any]:
    """The first document of a YAML file, a mapping. An empty one is an empty mapping.

    Scalars stay text (null is None), no tag constructs anything, aliases are refused. Raises what PyYAML raises.
    """
    if len(data) > MAX_DOCUMENT:
        raise _RefusedError(f"over {MAX_DOCUMENT} bytes")
    loader = _Loader(data)
    try:
        document = loader.get_data() if loader.check_node() else {}
    finally:
        loader.dispose()
    if not isinstance(document, dict):
        raise _RefusedError("not a mapping")
    return {key: value for key, value in document.items() if isinstance(key, str)}
