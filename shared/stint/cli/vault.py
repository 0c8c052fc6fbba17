"""`stint vault-setup`: what Stint needs in a Vault, made once."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from stint.envfile import write_env_file
from stint.errors import StintError
from stint.vault.setup import SetupReport, service_settings
from stint.vault.setup import vault_setup as set_up


def vault_setup(
    env_file: Annotated[
        Path | None, typer.Option(help="Write the settings that the services need to this file (0600).")
    ] = None,
    role: Annotated[
        str, typer.Option(envvar=["STINT_ROLE", "GOSTINT_ROLENAME"], help="The jobs' AppRole, policy and transit key.")
    ] = "stint-job",
    secrets: Annotated[
        list[str] | None, typer.Option("--secrets", help="A path that jobs may read; can be given several times.")
    ] = None,
    registries: Annotated[
        str,
        typer.Option(
            envvar="STINT_REGISTRY_SECRETS", help="The path where runners may read logins for image registries."
        ),
    ] = "",
    kv_mount: Annotated[str, typer.Option(help="Also make a KV v2 mount of this name.")] = "",
) -> None:
    """Make mounts, keys, policies and AppRoles in Vault. Safe to repeat; what differs is left alone and named.

    Needs VAULT_ADDR and, in VAULT_TOKEN, a token that may do all this.
    """
    address, token = os.environ.get("VAULT_ADDR", ""), os.environ.get("VAULT_TOKEN", "")
    if not address or not token:
        typer.echo("stint vault-setup: VAULT_ADDR and VAULT_TOKEN must be set.", err=True)
        raise typer.Exit(2)
    cacert = os.environ.get("VAULT_CACERT", "")
    paths = tuple(secrets or ["kv/data/*"])
    try:
        report = asyncio.run(_set_up(address, token, role, paths, registries, kv_mount, cacert))
        if env_file is not None:
            settings = asyncio.run(service_settings(address, token, role=role, cacert=cacert))
            write_env_file(env_file, {**settings, **({"STINT_REGISTRY_SECRETS": registries} if registries else {})})
            typer.echo(f"settings written to {env_file}")
    except StintError as error:
        typer.echo(f"stint vault-setup: {error.sentence}", err=True)
        raise typer.Exit(125) from None
    for verb, names in (("made", report.made), ("found", report.found), ("left alone, it differs:", report.different)):
        for name in names:
            typer.echo(f"{verb} {name}")


async def _set_up(
    address: str, token: str, role: str, secrets: tuple[str, ...], registries: str, kv_mount: str, cacert: str
) -> SetupReport:
    return await set_up(
        address, token, role=role, secret_paths=secrets, registries=registries, kv_mount=kv_mount, cacert=cacert
    )
