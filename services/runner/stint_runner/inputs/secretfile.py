"""Secret references, and the file that carries their values into the container."""

import asyncio
import hashlib
import hmac
import io
import json
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import yaml

from stint.core.errors import JobFailedError
from stint_runner.engine.port import MAX_FILE, USER_ID, Engine
from stint_runner.inputs.files import Member

_REFERENCE: Final = re.compile(r"(\w+)@([\w\-_/]+)\.([\w\-_]+)", re.ASCII)
NAMED: Final = 100  # secrets of a job that its events name
NAMED_BYTES: Final = 16 * 1024  # bytes of these names, which are ASCII
VALUE: Final = 100  # bytes that each value, and each inside of it, counts beside its size, for the time to write it
_FORBIDDEN_MOUNTS: Final = frozenset({"auth", "sys", "cubbyhole", "identity"})
"""Vault's own mounts, which would reveal the job's token or facts about it."""

_YAML_HEAD: Final = b"---\n# gostint vault secrets injected:\n"
_YAML_12_NUMBER: Final = re.compile(r"[-+]?(0o[0-7]+|0x[0-9a-fA-F]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)$")

TOO_LARGE: Final = f"The job's secrets are over {MAX_FILE} bytes, with {VALUE} counted for each value in them."

_OTHER_BREAKS: Final = re.compile(r"[\r\x85\u2028\u2029]")  # YAML 1.1 ends a line at these, too, 1.2 does not


class SecretRef(msgspec.Struct, frozen=True):
    """`variable@path.key`: the value under `key` at a Vault path, and the name it gets in the secrets file."""

    variable: str
    path: str
    key: str

    @property
    def place(self) -> str:
        """`path.key`, for messages."""
        return f"{self.path}.{self.key}"


def parse_ref(text: str) -> SecretRef:
    """Read a reference, without empty segments. Raises JobFailedError if it is none, or in Vault's own mounts."""
    match = _REFERENCE.fullmatch(text)
    segments = [segment for segment in match[2].split("/") if segment] if match else []
    if match is None or not segments:
        raise JobFailedError(f"Secretref is unparseable: {text}", reason="secrets")
    if segments[0].lower() in _FORBIDDEN_MOUNTS:
        raise JobFailedError(f"Secretref may not point under {segments[0]}/: {text}", reason="secrets")
    return SecretRef(match[1], "/".join(segments), match[3])


def parse_refs(texts: Iterable[str]) -> list[SecretRef]:
    """Read references; of several for one variable the last wins. Raises JobFailedError if any of them is wrong."""
    return list({ref.variable: ref for ref in map(parse_ref, texts)}.values())


def pick(ref: SecretRef, data: Mapping[str, Any] | None) -> Any:
    """The value in the `data` of Vault's answer, or in KV v2's `data` inside. Raises JobFailedError without one."""
    if not isinstance(data, Mapping):
        raise JobFailedError(f"No data returned from vault path {ref.place}", reason="secrets")
    inner = data.get("data")
    values = inner if isinstance(inner, Mapping) else data
    if ref.key not in values:
        raise JobFailedError(f"Failed retrieving from vault path {ref.place}", reason="secrets")
    return values[ref.key]


def version_of(data: Mapping[str, Any] | None) -> int | None:
    """The version of a secret of KV v2, from Vault's answer; None from another engine, whatever its data look like."""
    inner = data.get("metadata") if isinstance(data, Mapping) and isinstance(data.get("data"), Mapping) else None
    version = inner.get("version") if isinstance(inner, Mapping) else None
    return version if type(version) is int and 0 < version < 2**63 else None


def recorded(given: Mapping[str, int | None]) -> Mapping[str, Any]:
    """What `launched` says of a job's secrets: it must fit into a message."""
    named: dict[str, int | None] = {}
    room = NAMED_BYTES
    for place, version in given.items():
        if len(named) < NAMED and len(place) <= room:
            named[place] = version
            room -= len(place)
    return {"secrets": named, "secrets_left_out": len(given) - len(named)}


def check_file_type(file_type: str) -> str:
    """`yaml` or `json`; "" is `yaml`. Raises JobFailedError for any other word."""
    if file_type not in {"", "yaml", "json"}:
        raise JobFailedError(f"Invalid SecretFileType: '{file_type}'", reason="secrets")
    return file_type or "yaml"


def render(values: Mapping[str, Any], file_type: str) -> tuple[str, bytes]:
    """Path and bytes of the secrets file: `/secrets.yml` or `/secrets.json`, sorted by variable.

    Raises:
        JobFailedError: another file type, a value with hundreds of levels, or more than can be read back.
    """
    file = _File()
    try:
        _check_size(values)
        if check_file_type(file_type) == "json":
            return "/secrets.json", json.dumps(values, sort_keys=True).encode()
        file.write(_YAML_HEAD)
        options: dict[str, Any] = {"default_flow_style": False, "allow_unicode": True, "width": sys.maxsize}
        yaml.dump(dict(values), file, _Dumper, encoding="utf-8", **options)
    except RecursionError:
        raise JobFailedError("A secret has too many levels.", reason="secrets") from None
    return "/secrets.yml", file.getvalue()


def _check_size(values: Mapping[str, Any]) -> None:
    """Raise JobFailedError if they are too large. A secret that many variables name is measured once."""
    sizes = {key: _size(value) for key, value in {id(value): value for value in values.values()}.items()}
    if sum(len(variable) + sizes[id(value)] for variable, value in values.items()) > MAX_FILE:
        raise JobFailedError(TOO_LARGE, reason="secrets")


def _size(value: Any) -> int:
    """Bytes of it as JSON, and `VALUE` for it and each value in it."""
    count, left = 0, [value]
    while left:
        inner = left.pop()
        count += 1
        left.extend(inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ())
    return len(json.dumps(value)) + VALUE * count


class _File(io.BytesIO):
    """YAML may be larger than JSON: it indents each line of a value that has many levels."""

    def write(self, data: Any) -> int:
        """Refuse what would make it too large."""
        if self.tell() + len(data) > MAX_FILE:
            raise JobFailedError(TOO_LARGE, reason="secrets")
        return super().write(data)


def secrets_member(values: Mapping[str, Any], file_type: str, *, compat: bool = False) -> Member:
    """The file for the container's overlay: 0400 and the job's user's; with `compat` 0444 and root's."""
    path, data = render(values, file_type)
    mode, owner = (0o444, 0) if compat else (0o400, USER_ID)
    return Member(path=path, data=data, mode=mode, owner=owner)


class Seal(msgspec.Struct, frozen=True):
    """Shows after a restart whether a secrets file is still the one that the runner wrote.

    The job may change the file, or contain another. Neither half reveals anything about the secrets: the key is random,
    and without it the digest cannot be compared with guesses.
    """

    key: str  # hex, a label of the container, which the job cannot change. Who can read it can read the file as well
    digest: str = ""  # hex, of path and bytes under the key, kept in the runner's state folder. "" if nothing is known

    @classmethod
    def of(cls, member: Member, key: str) -> "Seal":
        """The seal of a file that is about to be written."""
        digest = hmac.digest(key.encode(), member.path.encode() + b"\0" + member.data, hashlib.sha256)
        return cls(key, digest.hex())


def new_key() -> str:
    """A key for one container's seal."""
    return secrets.token_hex(32)


async def read_values(engine: Engine, container_id: str, seal: Seal) -> Sequence[Any]:
    """The secret values in a container's secrets file. Raises JobFailedError if the file is gone, or another one."""
    for path, parse in (("/secrets.yml", yaml.safe_load), ("/secrets.json", json.loads)):
        data = await engine.read_file(container_id, path)
        if data is None:
            continue
        found = Seal.of(Member(path=path, data=data, mode=0, owner=0), seal.key)
        if hmac.compare_digest(found.digest, seal.digest):
            # In a thread: YAML of a megabyte takes seconds.
            return list((await asyncio.to_thread(parse, data)).values())
    raise JobFailedError("The secrets file is not the one that was written, or is gone.", reason="secrets")


class _Dumper(yaml.SafeDumper):
    """Readable by YAML 1.1 and 1.2 alike, without aliases: text that either takes for a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _OTHER_BREAKS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_12_NUMBER, list("-+.0123456789"))
_Dumper.add_representer(str, _represent_text)
