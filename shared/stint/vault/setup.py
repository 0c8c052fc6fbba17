"""`stint vault-setup`: creates what Stint needs in Vault, and changes existing resources only with `update`."""

import difflib
import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import uuid4

from stint.core.errors import VaultNotFoundError, VaultRefusedError
from stint.vault.answers import data_of
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_path
from stint.vault.policies import API, CLIENT, KEYS, RUNNER, SESSION_KEY, app_roles, policies
from stint.vault.ticket import BUS_KEY
from stint.vault.transit import RECEIPT_KEY

_LOGINS: Final = {API: "STINT_API", RUNNER: "STINT_RUNNER"}  # prefixes of the settings for each service's AppRole
_KEY: Final = {"type": "aes256-gcm96", "derived": False, "exportable": False, "allow_plaintext_backup": False}
_SIGNING_KEY: Final = {**_KEY, "type": "ed25519"}
_RULES: Final = "policy"


class _Resource(NamedTuple):
    """A mount, key, policy or AppRole: its name in reports, its path, and the settings that it must have.

    Settings that are not in `wanted` are ignored. Mounts and keys are not `changeable`: they are only created.
    """

    name: str
    path: str
    wanted: Mapping[str, Any]
    changeable: bool = False

    async def read(self, client: Any) -> Mapping[str, Any]:
        return data_of(await client.adapter.get(f"/v1/{check_path(self.path)}"))

    async def write(self, client: Any) -> None:
        await client.adapter.post(f"/v1/{check_path(self.path)}", json=dict(self.wanted))

    def difference(self, present: Mapping[str, Any]) -> str:
        """The difference between the existing and the wanted settings, as a unified diff; "" if there is none."""
        there = {name: present.get(name) for name in self.wanted}
        names = f"{self.name}, in Vault", f"{self.name}, as wanted"
        return "\n".join(difflib.unified_diff([*_lines(there)], [*_lines(self.wanted)], *names, lineterm=""))


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if name == _RULES:
            yield from str(value).splitlines()
        else:
            yield f"{name} = {json.dumps(value)}"


def _resources(role: str, secret_paths: Sequence[str], registries: str, kv_mount: str) -> Iterator[_Resource]:
    """All resources, in the order in which they must be created."""
    texts = policies(role, secret_paths, registries)
    yield _Resource("auth approle", "sys/auth/approle", {"type": "approle"})
    yield _Resource("mount transit", "sys/mounts/transit", {"type": "transit"})
    yield _Resource(f"mount {KEYS}", f"sys/mounts/{KEYS}", {"type": "kv", "options": {"version": "1"}})
    if kv_mount:
        yield _Resource(f"mount {kv_mount}", f"sys/mounts/{kv_mount}", {"type": "kv", "options": {"version": "2"}})
    for name in (BUS_KEY, SESSION_KEY, role):
        yield _Resource(f"key {name}", f"transit/keys/{name}", _KEY)
    yield _Resource(f"key {RECEIPT_KEY}", f"transit/keys/{RECEIPT_KEY}", _SIGNING_KEY)
    for name, text in texts.items():
        yield _Resource(f"policy {name}", f"sys/policies/acl/{name}", {_RULES: text}, changeable=True)
    for name, settings in app_roles(role).items():
        yield _Resource(f"role {name}", f"auth/approle/role/{name}", settings, changeable=True)


@dataclass(frozen=True, slots=True)
class SetupReport:
    """The result for each resource, such as `policy stint-api`."""

    made: tuple[str, ...]
    found: tuple[str, ...]  # resources that existed as wanted
    different: tuple[str, ...]  # resources that differ and were not changed
    updated: tuple[str, ...] = ()  # resources that differed and were changed
    diffs: Mapping[str, str] = field(default_factory=dict)  # the differences, by the resource's name


async def vault_setup(
    vault_addr: str,
    token: str,  # an administrator's
    *,
    role: str = "stint-job",  # name of the jobs' AppRole, policy and payload key
    secret_paths: Sequence[str] = ("kv/data/*",),  # that jobs may read
    registries: str = "",  # the path from which runners may read logins for image registries, "" for none
    kv_mount: str = "",  # for development, a KV v2 mount to create, with a secret `demo` that has a random `password`
    cacert: str = "",  # a CA bundle to verify the server with
    update: bool = False,  # change policies and AppRoles that differ. Mounts and keys are never changed
    keep: Collection[str] = (),  # further resources that are never changed
) -> SetupReport:
    """Create mounts, keys, policies and AppRoles. Safe to repeat. Raises ConfigError if a name or path is invalid.

    After a VaultError of any kind what was created before remains.
    """
    outcomes: dict[str, list[str]] = {"made": [], "found": [], "different": [], "updated": []}
    diffs = {}
    async with Vault(vault_addr, cacert=cacert) as vault:
        for resource in _resources(role, secret_paths, registries, kv_mount):
            outcome, diff = await _ensure(vault, token, resource, update=update and resource.name not in keep)
            outcomes[outcome].append(resource.name)
            if diff:
                diffs[resource.name] = diff
        if f"mount {kv_mount}" in outcomes["made"]:
            example = {"data": {"password": secrets.token_urlsafe(12)}}
            await vault.call(token, lambda client: client.adapter.post(f"/v1/{kv_mount}/data/demo", json=example))
    return SetupReport(**{outcome: tuple(names) for outcome, names in outcomes.items()}, diffs=diffs)


async def _ensure(vault: Vault, token: str, resource: _Resource, *, update: bool) -> tuple[str, str]:
    try:
        present = await vault.call(token, resource.read)
    except (VaultNotFoundError, VaultRefusedError):  # a 400 says that nothing is mounted there
        await vault.call(token, resource.write)
        return "made", ""
    diff = resource.difference(present)
    if diff and update and resource.changeable:
        await vault.call(token, resource.write)
        return "updated", diff
    return ("different" if diff else "found"), diff


async def service_settings(
    vault_addr: str,
    token: str,
    *,
    role: str = "stint-job",
    cacert: str = "",
    known: Mapping[str, str] | None = None,
    keep: Callable[[Mapping[str, str]], None] = lambda _settings: None,
) -> Mapping[str, str]:
    """The settings that the services need to log in, by environment name.

    A secret id in `known`, the settings of an earlier call, is kept if Vault still accepts it. A new one never expires.
    It is made here, and `keep` is called with all settings before Vault knows it: whatever fails then, and be it that
    Vault's answer is lost, no login is valid that nobody has. The caller must prevent two calls at once for the same
    settings: each would make secret ids, and only one call's are kept.
    """
    vault, settings, new = Vault(vault_addr, cacert=cacert), {"STINT_ROLE": role}, dict[str, str]()

    async def role_id(name: str) -> str:
        return str(data_of(await vault.call(token, lambda client: client.auth.approle.read_role_id(name)))["role_id"])

    async def register(name: str, secret_id: str) -> None:
        await vault.call(token, lambda client: client.auth.approle.create_custom_secret_id(name, secret_id))

    settings["STINT_ROLE_ID"] = await role_id(role)
    for name, prefix in _LOGINS.items():
        settings[f"{prefix}_ROLE_ID"] = await role_id(name)
        secret_id = (known or {}).get(f"{prefix}_SECRET_ID", "")
        if not secret_id or not await _is_known(vault, token, name, secret_id):
            secret_id = new[name] = str(uuid4())
        settings[f"{prefix}_SECRET_ID"] = secret_id
    keep(settings)
    for name, secret_id in new.items():
        await register(name, secret_id)
    return settings


async def _is_known(vault: Vault, token: str, name: str, secret_id: str) -> bool:
    """Whether Vault still knows a secret id. Checked without a login, which could spend it."""
    try:
        answer = await vault.call(token, lambda client: client.auth.approle.read_secret_id(name, secret_id))
    except VaultNotFoundError:
        return False
    return bool(data_of(answer))


async def revoke_secret_ids(vault_addr: str, token: str, settings: Mapping[str, str], *, cacert: str = "") -> None:
    """Revoke the secret ids in these settings."""
    vault = Vault(vault_addr, cacert=cacert)

    async def revoke(name: str, secret_id: str) -> None:
        await vault.call(token, lambda client: client.auth.approle.destroy_secret_id(name, secret_id))

    for name, prefix in _LOGINS.items():
        await revoke(name, settings[f"{prefix}_SECRET_ID"])


async def client_token(
    vault_addr: str, token: str, *, policies: Sequence[str] = (CLIENT,), ttl: str = "24h", cacert: str = ""
) -> str:
    """Create a token for a client, with these policies and `default`. It expires with `token` at the latest."""
    wanted = ["default", *policies]
    answer = await Vault(vault_addr, cacert=cacert).call(
        token, lambda client: client.auth.token.create(policies=wanted, ttl=ttl, display_name=CLIENT)
    )
    return str(answer["auth"]["client_token"])
