"""`stint config` and `stint completion`."""

import json
from typing import Annotated, Final, Literal

import typer

from stint.cli.errors import reported
from stint.cli.settings import NAMES, Profile, Url, is_there, settings, settings_file, without_login
from stint.cli.show.form import FormName
from stint.client.options import DEFAULT_ROLE, DEFAULT_URL, DEFAULT_VAULT

app = typer.Typer(add_completion=False)

DEFAULTS: Final = {"STINT_URL": DEFAULT_URL, "VAULT_ADDR": DEFAULT_VAULT, "STINT_ROLE": DEFAULT_ROLE}
_SECRET: Final = ("STINT_TOKEN", "VAULT_TOKEN")


@app.command()
def config(
    form: Annotated[FormName, typer.Option("--output", "-o", help="Lines, or one object as JSON.")] = "table",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Show the settings that commands would use, and where each is from. Tokens are hidden.

    Options count first, then the profile that was asked for, the environment, the profile that the settings file names,
    and at last the defaults. The token may also be in ~/.vault-token, where `stint login` puts it.

    Example: `stint config --profile staging`
    """
    with reported("stint"):
        found = settings(url, profile)
    found.take(DEFAULTS, "default")
    names = [name for name in (*NAMES.values(), *_SECRET) if name in found]
    shown = {name: {"value": _shown(name, found[name]), "from": found.origin[name]} for name in names}
    if form == "json":
        typer.echo(json.dumps(shown))
        return
    for name, setting in shown.items():
        typer.echo(name if form == "name" else f"{name:<18}{setting['value']:<40}  {setting['from']}")
    if form != "name":
        path = settings_file()
        typer.echo(f"{'settings file':<18}{path}{'' if is_there(path) else ' (none)'}")


def _shown(name: str, value: str) -> str:
    return "(hidden)" if name in _SECRET else without_login(value)


@app.command(no_args_is_help=True)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="The shell.")],
) -> None:
    """Print what makes a shell complete commands, options, job ids, queues and runners.

    For example:

        stint completion bash > /etc/bash_completion.d/stint

        stint completion zsh > "${fpath[1]}/_stint"

        stint completion fish > ~/.config/fish/completions/stint.fish
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - typer prints it only by option

    typer.echo(get_completion_script(prog_name="stint", complete_var="_STINT_COMPLETE", shell=shell))
