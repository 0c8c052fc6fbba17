"""`stint vault-setup`: makes in Vault what Stint needs, and changes nothing that is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stint.errors import VaultNotFoundError
from stint.vault.edge import Edge
from stint.vault.policies import API, CLIENT, RUNNER, app_roles, policies
from stint.vault.ticket import BUS_KEY

_KEY: Final = {"type": "aes256-gcm96", "derived": False, "exportable": False, "allow_plaintext_backup": False}


@dataclass(frozen=True, slots=True)
class SetupReport:
    """What became of each part, such as `policy stint-api`.

    Attributes:
        made: was not there.
        found: was there, just as wanted.
        different: is there with other content, and was left alone.
    """

    made: tuple[str, ...]
    found: tuple[str, ...]
    different: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One thing to have in Vault: how to read it (None or a 404: absent), what it should hold, how to make it."""

    name: str
    read: Callable[[Any], Mapping[str, Any] | None]
    wanted: Mapping[str, Any]
    make: Callable[[Any], object]


async def vault_setup(
    vault_addr: str,
    token: str,
    *,
    role: str = "stint-job",
    secret_paths: Sequence[str] = ("kv/data/*",),
    registries: str = "",
    kv_mount: str = "",
    cacert: str = "",
) -> SetupReport:
    """Make mounts, keys, policies and AppRoles. Safe to repeat.

    Args:
        vault_addr: the server.
        token: one that may do all this.
        role: name of the jobs' AppRole, policy and payload key.
        secret_paths: what jobs may read.
        registries: where runners may read logins for image registries, "" for nowhere.
        kv_mount: also make a KV v2 mount of this name, for development.
        cacert: a CA bundle to verify the server with.

    Raises:
        VaultError: of any kind; what was made before it stays.
        ConfigError: a name or path that cannot be one.
    """
    edge = Edge(vault_addr, cacert=cacert)
    outcomes: dict[str, list[str]] = {"made": [], "found": [], "different": []}
    for part in _parts(role, secret_paths, registries, kv_mount):
        outcomes[await _ensure(edge, token, part)].append(part.name)
    return SetupReport(**{outcome: tuple(names) for outcome, names in outcomes.items()})


async def service_settings(
    vault_addr: str, token: str, *, role: str = "stint-job", cacert: str = ""
) -> Mapping[str, str]:
    """The settings that the services need to log in, by environment name.

    Each call makes new secret ids; older ones stay good.
    """
    edge = Edge(vault_addr, cacert=cacert)
    settings = {"STINT_ROLE": role, "STINT_ROLE_ID": await _role_id(edge, token, role)}
    for name, prefix in ((API, "STINT_API"), (RUNNER, "STINT_RUNNER")):
        settings[f"{prefix}_ROLE_ID"] = await _role_id(edge, token, name)
        settings[f"{prefix}_SECRET_ID"] = await _secret_id(edge, token, name)
    return settings


async def client_token(
    vault_addr: str, token: str, *, policies: Sequence[str] = (CLIENT,), ttl: str = "24h", cacert: str = ""
) -> str:
    """A token for a client, with these policies and `default`. It ends with `token`, at the latest."""
    wanted = ["default", *policies]
    answer = await Edge(vault_addr, cacert=cacert).call(
        token, lambda client: client.auth.token.create(policies=wanted, ttl=ttl, display_name=CLIENT)
    )
    return str(answer["auth"]["client_token"])


async def _ensure(edge: Edge, token: str, part: _Part) -> str:
    try:
        present = await edge.call(token, part.read)
    except VaultNotFoundError:
        present = None
    if present is None:
        await edge.call(token, part.make)
        return "made"
    same = all(present.get(name) == value for name, value in part.wanted.items())
    return "found" if same else "different"


def _parts(role: str, secret_paths: Sequence[str], registries: str, kv_mount: str) -> list[_Part]:
    texts = policies(role, secret_paths, registries)
    return [
        _auth_mount(),
        _mount("transit", "transit", {}),
        *([_mount(kv_mount, "kv", {"options": {"version": "2"}})] if kv_mount else []),
        *(_key(name) for name in (BUS_KEY, role)),
        *(_policy(name, text) for name, text in texts.items()),
        *(_app_role(name, wanted) for name, wanted in app_roles(role).items()),
    ]


def _auth_mount() -> _Part:
    return _Part(
        name="auth approle",
        read=lambda client: _data(client.sys.list_auth_methods()).get("approle/"),
        wanted={"type": "approle"},
        make=lambda client: client.sys.enable_auth_method("approle"),
    )


def _mount(path: str, kind: str, options: Mapping[str, Any]) -> _Part:
    return _Part(
        name=f"mount {path}",
        read=lambda client: _data(client.sys.list_mounted_secrets_engines()).get(f"{path.strip('/')}/"),
        wanted={"type": kind, **options},
        make=lambda client: client.sys.enable_secrets_engine(kind, path=path, **options),
    )


def _key(name: str) -> _Part:
    return _Part(
        name=f"key {name}",
        read=lambda client: _data(client.secrets.transit.read_key(name)),
        wanted=_KEY,
        make=lambda client: client.secrets.transit.create_key(name, key_type=_KEY["type"]),
    )


def _policy(name: str, text: str) -> _Part:
    return _Part(
        name=f"policy {name}",
        read=lambda client: _data(client.sys.read_policy(name)),
        wanted={"rules": text},
        make=lambda client: client.sys.create_or_update_policy(name, text),
    )


def _app_role(name: str, wanted: Mapping[str, Any]) -> _Part:
    return _Part(
        name=f"role {name}",
        read=lambda client: _data(client.auth.approle.read_role(name)),
        wanted=wanted,
        make=lambda client: client.auth.approle.create_or_update_approle(name, **wanted),
    )


async def _role_id(edge: Edge, token: str, name: str) -> str:
    answer = await edge.call(token, lambda client: client.auth.approle.read_role_id(name))
    return str(_data(answer)["role_id"])


async def _secret_id(edge: Edge, token: str, name: str) -> str:
    answer = await edge.call(token, lambda client: client.auth.approle.generate_secret_id(name))
    return str(_data(answer)["secret_id"])


def _data(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    data: Mapping[str, Any] = answer["data"]
    return data
