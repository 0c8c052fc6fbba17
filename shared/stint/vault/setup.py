"""`stint vault-setup`: creates what Stint needs in Vault, and changes existing parts only with `update`."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from stint.core.errors import VaultNotFoundError
from stint.vault.adapter import Edge
from stint.vault.parts import Part, all_parts, data_of
from stint.vault.policies import API, CLIENT, RUNNER

_LOGINS: Final = {API: "STINT_API", RUNNER: "STINT_RUNNER"}
"""Prefixes of the settings for each service's AppRole."""


@dataclass(frozen=True, slots=True)
class SetupReport:
    """The result for each part, such as `policy stint-api`.

    Attributes:
        made: parts that were created.
        found: parts that existed as wanted.
        different: parts that differ and were not changed.
        updated: parts that differed and were changed.
        diffs: the differences, by the part's name.
    """

    made: tuple[str, ...]
    found: tuple[str, ...]
    different: tuple[str, ...]
    updated: tuple[str, ...] = ()
    diffs: Mapping[str, str] = field(default_factory=dict)


async def vault_setup(
    vault_addr: str,
    token: str,
    *,
    role: str = "stint-job",
    secret_paths: Sequence[str] = ("kv/data/*",),
    registries: str = "",
    kv_mount: str = "",
    cacert: str = "",
    update: bool = False,
    keep: Collection[str] = (),
) -> SetupReport:
    """Create mounts, keys, policies and AppRoles. Safe to repeat.

    Args:
        vault_addr: the server.
        token: an administrator's token.
        role: name of the jobs' AppRole, policy and payload key.
        secret_paths: the paths that jobs may read.
        registries: the path from which runners may read logins for image registries, "" for none.
        kv_mount: for development, also create a KV v2 mount with this name, and in it the secret `demo` with a random
            `password`.
        cacert: a CA bundle to verify the server with.
        update: change policies and AppRoles that differ. Mounts and keys are never changed.
        keep: further parts that are never changed.

    Raises:
        VaultError: of any kind; parts that were created before the error remain.
        ConfigError: a name or path is invalid.
    """
    edge = Edge(vault_addr, cacert=cacert)
    outcomes: dict[str, list[str]] = {"made": [], "found": [], "different": [], "updated": []}
    diffs = {}
    for part in all_parts(role, secret_paths, registries, kv_mount):
        outcome, diff = await _ensure(edge, token, part, update=update and part.name not in keep)
        outcomes[outcome].append(part.name)
        if diff:
            diffs[part.name] = diff
    if f"mount {kv_mount}" in outcomes["made"]:
        example = {"data": {"password": secrets.token_urlsafe(12)}}
        await edge.call(token, lambda client: client.adapter.post(f"/v1/{kv_mount}/data/demo", json=example))
    return SetupReport(**{outcome: tuple(names) for outcome, names in outcomes.items()}, diffs=diffs)


async def _ensure(edge: Edge, token: str, part: Part, *, update: bool) -> tuple[str, str]:
    """Create or check a part; returns the result and the difference."""
    try:
        present = await edge.call(token, part.read)
    except VaultNotFoundError:
        present = None
    if present is None:
        await edge.call(token, part.make)
        return "made", ""
    diff = part.difference(present)
    if diff and update and part.changeable:
        await edge.call(token, part.make)
        return "updated", diff
    return ("different" if diff else "found"), diff


async def service_settings(
    vault_addr: str,
    token: str,
    *,
    role: str = "stint-job",
    cacert: str = "",
    known: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """The settings that the services need to log in, by environment name.

    A secret id in `known`, the settings of an earlier call, is kept if Vault still accepts it. A new one never expires:
    see `revoke_secret_ids`.
    """
    edge = Edge(vault_addr, cacert=cacert)
    settings = {"STINT_ROLE": role, "STINT_ROLE_ID": await _role_id(edge, token, role)}
    for name, prefix in _LOGINS.items():
        settings[f"{prefix}_ROLE_ID"] = await _role_id(edge, token, name)
        secret_id = (known or {}).get(f"{prefix}_SECRET_ID", "")
        good = secret_id and await _is_known(edge, token, name, secret_id)
        settings[f"{prefix}_SECRET_ID"] = secret_id if good else await _secret_id(edge, token, name)
    return settings


async def revoke_secret_ids(
    vault_addr: str,
    token: str,
    settings: Mapping[str, str],
    *,
    cacert: str = "",
    known: Mapping[str, str] | None = None,
) -> None:
    """Revoke the secret ids in these settings, except those in `known`, which existed before."""
    edge = Edge(vault_addr, cacert=cacert)
    for name, prefix in _LOGINS.items():
        secret_id = settings[f"{prefix}_SECRET_ID"]
        if secret_id != (known or {}).get(f"{prefix}_SECRET_ID"):
            await _destroy(edge, token, name, secret_id)


async def client_token(
    vault_addr: str, token: str, *, policies: Sequence[str] = (CLIENT,), ttl: str = "24h", cacert: str = ""
) -> str:
    """Create a token for a client, with these policies and `default`. It expires with `token` at the latest."""
    wanted = ["default", *policies]
    answer = await Edge(vault_addr, cacert=cacert).call(
        token, lambda client: client.auth.token.create(policies=wanted, ttl=ttl, display_name=CLIENT)
    )
    return str(answer["auth"]["client_token"])


async def _role_id(edge: Edge, token: str, name: str) -> str:
    answer = await edge.call(token, lambda client: client.auth.approle.read_role_id(name))
    return str(data_of(answer)["role_id"])


async def _secret_id(edge: Edge, token: str, name: str) -> str:
    answer = await edge.call(token, lambda client: client.auth.approle.generate_secret_id(name))
    return str(data_of(answer)["secret_id"])


async def _is_known(edge: Edge, token: str, name: str, secret_id: str) -> bool:
    """Whether Vault still knows a secret id. Checked without a login, which could spend it."""
    try:
        answer: Any = await edge.call(token, lambda client: client.auth.approle.read_secret_id(name, secret_id))
    except VaultNotFoundError:
        return False
    return bool(data_of(answer))


async def _destroy(edge: Edge, token: str, name: str, secret_id: str) -> None:
    await edge.call(token, lambda client: client.auth.approle.destroy_secret_id(name, secret_id))
