"""The parts that Stint needs in Vault, and how to read, create and change each of them."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stint.vault.policies import app_roles, policies
from stint.vault.ticket import BUS_KEY

_KEY: Final = {"type": "aes256-gcm96", "derived": False, "exportable": False, "allow_plaintext_backup": False}
_RULES: Final = "rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of Vault's configuration.

    Attributes:
        name: its kind and name, such as `policy stint-api`.
        read: reads the existing part; None or a 404 if it does not exist.
        wanted: the settings that it must have. Others are ignored.
        make: creates it.
        changeable: whether `make` also changes an existing part.
    """

    name: str
    read: Callable[[Any], Mapping[str, Any] | None]
    wanted: Mapping[str, Any]
    make: Callable[[Any], object]
    changeable: bool = False

    def difference(self, present: Mapping[str, Any]) -> str:
        """The difference between the existing and the wanted part, as a unified diff; "" if there is none."""
        there = {name: present.get(name) for name in self.wanted}
        if there == self.wanted:
            return ""
        lines = difflib.unified_diff(
            [*_lines(there)], [*_lines(self.wanted)], f"{self.name}, in Vault", f"{self.name}, as wanted", lineterm=""
        )
        return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if name == _RULES:
            yield from str(value).splitlines()
        else:
            yield f"{name} = {json.dumps(value)}"


def all_parts(role: str, secret_paths: Sequence[str], registries: str, kv_mount: str) -> list[Part]:
    """All parts, in the order in which they must be created.

    Raises:
        ConfigError: a name or path is invalid.
    """
    texts = policies(role, secret_paths, registries)
    return [
        _auth_mount(),
        _mount("transit", "transit", {}),
        *([_mount(kv_mount, "kv", {"options": {"version": "2"}})] if kv_mount else []),
        *(_key(name) for name in (BUS_KEY, role)),
        *(_policy(name, text) for name, text in texts.items()),
        *(_app_role(name, wanted) for name, wanted in app_roles(role).items()),
    ]


def _auth_mount() -> Part:
    return Part(
        name="auth approle",
        read=lambda client: data_of(client.sys.list_auth_methods()).get("approle/"),
        wanted={"type": "approle"},
        make=lambda client: client.sys.enable_auth_method("approle"),
    )


def _mount(path: str, kind: str, options: Mapping[str, Any]) -> Part:
    return Part(
        name=f"mount {path}",
        read=lambda client: data_of(client.sys.list_mounted_secrets_engines()).get(f"{path.strip('/')}/"),
        wanted={"type": kind, **options},
        make=lambda client: client.sys.enable_secrets_engine(kind, path=path, **options),
    )


def _key(name: str) -> Part:
    return Part(
        name=f"key {name}",
        read=lambda client: data_of(client.secrets.transit.read_key(name)),
        wanted=_KEY,
        make=lambda client: client.secrets.transit.create_key(name, key_type=_KEY["type"]),
    )


def _policy(name: str, text: str) -> Part:
    return Part(
        name=f"policy {name}",
        read=lambda client: data_of(client.sys.read_policy(name)),
        wanted={_RULES: text},
        make=lambda client: client.sys.create_or_update_policy(name, text),
        changeable=True,
    )


def _app_role(name: str, wanted: Mapping[str, Any]) -> Part:
    return Part(
        name=f"role {name}",
        read=lambda client: data_of(client.auth.approle.read_role(name)),
        wanted=wanted,
        make=lambda client: client.auth.approle.create_or_update_approle(name, **wanted),
        changeable=True,
    )


def data_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `data` of an answer; empty if the answer has no body."""
    data: Mapping[str, Any] = answer.get("data") or {}
    return data
