"""`stint vault-setup`: creates what Stint needs in Vault."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import SecretStr

from stint.cli.errors import reported
from stint.cli.options import taking
from stint.core.errors import ConfigError
from stint.process.env_file import env_text, is_open, read_env_file, save
from stint.process.environment import Shape, load
from stint.process.lock import locked
from stint.vault.setup import SetupReport, service_settings
from stint.vault.setup import vault_setup as set_up

DIFFERENT: Final = 1
"""Exit code: something differs, and was not changed."""
FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("STINT_API_ROLE_ID", "STINT_API_SECRET_ID"),
    "runner": ("STINT_RUNNER_ROLE_ID", "STINT_RUNNER_SECRET_ID", "STINT_ROLE_ID"),
}
"""The logins of each service. The projector does not use Vault."""

app = typer.Typer(add_completion=False)


class _Server(Shape):
    vault_addr: str
    vault_token: SecretStr
    vault_cacert: str = ""


@dataclass(kw_only=True)
class _Options:
    env_file: Annotated[
        Path | None,
        typer.Option(
            help="Write the services' settings to this file (a new one gets mode 0600). Its other settings are kept, "
            "and so are logins that Vault still accepts."
        ),
    ] = None
    files: Annotated[
        Path | None,
        typer.Option(
            help="Write each service's logins to the folders `api` and `runner` in this one, which must exist: a file "
            "(a new one gets mode 0600) for each setting, such as STINT_API_SECRET_ID. Logins that Vault still accepts "
            "are kept."
        ),
    ] = None
    role: Annotated[
        str, typer.Option(envvar=["STINT_ROLE", "GOSTINT_ROLENAME"], help="The jobs' AppRole, policy and transit key.")
    ] = "stint-job"
    secrets: Annotated[
        list[str] | None,
        typer.Option("--secrets", help="A path that jobs may read; repeat it for more. Default: kv/data/*."),
    ] = None
    registries: Annotated[
        str,
        typer.Option(
            envvar="STINT_REGISTRY_SECRETS", help="The path from which runners may read logins for image registries."
        ),
    ] = ""
    kv_mount: Annotated[
        str,
        typer.Option(help="For development: also create a KV v2 mount with this name, and an example secret `demo`."),
    ] = ""
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Change policies and AppRoles that differ; the jobs' policy only together with --secrets. First "
            "look at the differences without this option. Give the other options as you did the first time.",
        ),
    ] = False


@app.command()
@taking(_Options)
def vault_setup(options: _Options) -> None:
    """Create mounts, keys, policies and AppRoles in Vault. Safe to repeat.

    Shows what differs, and changes it only with --update. Needs VAULT_ADDR, and an administrator's VAULT_TOKEN (or
    VAULT_TOKEN_FILE).

    Exit codes: 1 something differs and was not changed, 2 wrong option or setting, 125 Vault cannot be reached or
    refuses.

    Example: `stint vault-setup --env-file stint.env --secrets 'kv/data/*'`
    """
    # Two at once would make logins of which only one's are kept.
    folders = [options.files / service for service in FILES] if options.files else []
    folders += [Path(os.path.realpath(options.env_file)).parent] if options.env_file else []
    with reported("stint vault-setup"), locked(*folders):
        server = load(_Server, os.environ)
        report = asyncio.run(_set_up(server, options))
        _tell(report)
        if options.env_file or options.files:
            asyncio.run(_write_logins(server, options))
    if report.different:
        raise typer.Exit(DIFFERENT)


async def _set_up(server: _Server, options: _Options) -> SetupReport:
    return await set_up(
        server.vault_addr,
        server.vault_token.get_secret_value(),
        role=options.role,
        secret_paths=options.secrets or ("kv/data/*",),
        registries=options.registries,
        kv_mount=options.kv_mount,
        cacert=server.vault_cacert,
        update=options.update,
        # Without --secrets the policy would be reset to the default paths.
        keep=() if options.secrets else (f"policy {options.role}",),
    )


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


async def _write_logins(server: _Server, options: _Options) -> None:
    """Write the logins, before Vault is told of new secret ids, which never expire."""
    env_file, files = options.env_file, options.files
    access = (server.vault_addr, server.vault_token.get_secret_value())
    registries = {"STINT_REGISTRY_SECRETS": options.registries} if options.registries else {}
    given = read_env_file(env_file) if env_file else {}
    known = {**given, **(_read_files(files) if files else {})}

    def write(settings: Mapping[str, str]) -> None:
        wanted = {**given, **settings, **registries}
        if env_file and (wanted != given or is_open(env_file)):
            save(env_file, env_text(wanted))
        if files:
            _write_files(files, settings)

    settings = await service_settings(*access, role=options.role, cacert=server.vault_cacert, known=known, keep=write)
    for service, names in FILES.items():
        new = any(settings[name] != known.get(name) for name in names)
        typer.echo(f"{'created' if new else 'found'} login {service}")
    if env_file:
        typer.echo(f"settings are in {env_file}")
    if files:
        typer.echo(f"logins are in {files}")


def _read_files(folder: Path) -> dict[str, str]:
    paths = [folder / service / name for service, names in FILES.items() for name in names]
    return {path.name: text for path in paths if (text := _read_file(path))}


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read.") from None


def _write_files(folder: Path, settings: Mapping[str, str]) -> None:
    for service, names in FILES.items():
        for name in names:
            path = folder / service / name
            if _read_file(path) != settings[name] or is_open(path):
                save(path, settings[name])
