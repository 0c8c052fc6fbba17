"""`stint vault-setup`: creates what Stint needs in Vault."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from stint.core.errors import ConfigError, StintError
from stint.process.env_file import read_env_file, write_env_file
from stint.vault.setup import SetupReport, revoke_secret_ids, service_settings
from stint.vault.setup import vault_setup as set_up

DIFFERENT: Final = 1
"""Something differs, and was not changed."""
USAGE: Final = 2
REFUSED: Final = 125
"""Vault cannot be reached, or refuses."""


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The command's options. `secrets` is empty if none were given."""

    role: str
    secrets: tuple[str, ...]
    registries: str
    kv_mount: str
    env_file: Path | None
    update: bool


@dataclass(frozen=True, kw_only=True)
class _Server:
    address: str
    token: str
    cacert: str


def vault_setup(
    env_file: Annotated[
        Path | None,
        typer.Option(
            help="Write the services' settings to this file (mode 0600). Its other settings are kept, and so are "
            "logins that Vault still accepts."
        ),
    ] = None,
    role: Annotated[
        str, typer.Option(envvar=["STINT_ROLE", "GOSTINT_ROLENAME"], help="The jobs' AppRole, policy and transit key.")
    ] = "stint-job",
    secrets: Annotated[
        list[str] | None,
        typer.Option("--secrets", help="A path that jobs may read; repeat it for more. Default: kv/data/*."),
    ] = None,
    registries: Annotated[
        str,
        typer.Option(
            envvar="STINT_REGISTRY_SECRETS", help="The path from which runners may read logins for image registries."
        ),
    ] = "",
    kv_mount: Annotated[str, typer.Option(help="Also create a KV v2 mount with this name.")] = "",
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Change policies and AppRoles that differ; the jobs' policy only together with --secrets. First "
            "look at the differences without this option. Give the other options as you did the first time.",
        ),
    ] = False,
) -> None:
    """Create mounts, keys, policies and AppRoles in Vault. Safe to repeat.

    Shows what differs, and changes it only with --update. Needs VAULT_ADDR, and an administrator's VAULT_TOKEN.

    Exit codes: 1 something differs and was not changed, 2 wrong option or setting, 125 Vault cannot be reached or
    refuses.
    """
    server = _Server(
        address=os.environ.get("VAULT_ADDR", ""),
        token=os.environ.get("VAULT_TOKEN", ""),
        cacert=os.environ.get("VAULT_CACERT", ""),
    )
    if not server.address or not server.token:
        typer.echo("stint vault-setup: VAULT_ADDR and VAULT_TOKEN must be set.", err=True)
        raise typer.Exit(USAGE)
    wanted = _Wanted(
        role=role,
        secrets=tuple(secrets or ()),
        registries=registries,
        kv_mount=kv_mount,
        env_file=env_file,
        update=update,
    )
    try:
        report = asyncio.run(_set_up(server, wanted))
    except StintError as error:
        typer.echo(f"stint vault-setup: {error.sentence}", err=True)
        raise typer.Exit(USAGE if isinstance(error, ConfigError) else REFUSED) from None
    if report.different:
        raise typer.Exit(DIFFERENT)


async def _set_up(server: _Server, wanted: _Wanted) -> SetupReport:
    known = read_env_file(wanted.env_file) if wanted.env_file else {}
    report = await set_up(
        server.address,
        server.token,
        role=wanted.role,
        secret_paths=wanted.secrets or ("kv/data/*",),
        registries=wanted.registries,
        kv_mount=wanted.kv_mount,
        cacert=server.cacert,
        update=wanted.update,
        # Without --secrets the policy would be reset to the default paths.
        keep=() if wanted.secrets else (f"policy {wanted.role}",),
    )
    _tell(report)
    if wanted.env_file:
        await _write_settings(server, wanted, wanted.env_file, known)
        typer.echo(f"settings written to {wanted.env_file}")
    return report


def _tell(report: SetupReport) -> None:
    for diff in report.diffs.values():
        typer.echo(f"{diff}\n")
    outcomes = (
        ("created", report.made),
        ("found", report.found),
        ("updated", report.updated),
        ("differs, not changed:", report.different),
    )
    for verb, names in outcomes:
        for name in names:
            typer.echo(f"{verb} {name}")


async def _write_settings(server: _Server, wanted: _Wanted, path: Path, known: Mapping[str, str]) -> None:
    """Write the settings. New secret ids never expire, so they are revoked at once if they cannot be written."""
    settings = await service_settings(server.address, server.token, role=wanted.role, cacert=server.cacert, known=known)
    registries = {"STINT_REGISTRY_SECRETS": wanted.registries} if wanted.registries else {}
    try:
        write_env_file(path, {**known, **settings, **registries})
    except ConfigError:
        await revoke_secret_ids(server.address, server.token, settings, cacert=server.cacert, known=known)
        raise
