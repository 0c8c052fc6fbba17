"""The command line's commands."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from stint import __version__
from stint.cli.streams import open_streams, written
from stint.process.core_dumps import prevent_core_dumps

_PANELS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "Jobs": {
        "stint.cli.jobs.run": ("run", "submit"),
        "stint.cli.jobs.ls": ("ls", "show", "logs"),
        "stint.cli.jobs.history": ("history",),
        "stint.cli.jobs.act": ("wait", "kill", "rm", "rerun", "release"),
        "stint.cli.jobs.receipt": ("verify", "receipt"),
        "stint.cli.audit": ("audit", "lineage"),
    },
    "Queues and runners": {
        "stint.cli.fleet.queues": ("queues", "pause", "resume", "runners", "drain"),
        "stint.cli.fleet.events": ("top", "events"),
    },
    "Settings": {
        "stint.cli.login": ("login",),
        "stint.cli.config": ("config", "completion"),
        "stint.cli.doctor.command": ("doctor",),
    },
    "Services": {
        "stint.cli.dev.command": ("dev", "demo"),
        "stint.cli.services.start": ("api", "runner", "projector", "rebuild"),
        "stint.natsauth.callout.command": ("nats-auth",),
        "stint.cli.services.health": ("health",),
    },
    "What services need": {
        "stint.cli.services.vault_setup": ("vault-setup",),
        "stint.natsauth.command": ("nats-config",),
        "stint.natsauth.subscribe": ("subscribe",),
        "stint.cli.services.start": ("schema",),
    },
}
"""Where the commands are, in the order in which `--help` shows them: the `app` of a module is one, or a few."""
_PLACES: Final = {
    name: (panel, module) for panel, modules in _PANELS.items() for module, names in modules.items() for name in names
}


class _Commands(TyperGroup):
    """Imports only the module of the command that is used: `stint health` runs every few seconds."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's
        return [*_PLACES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _PLACES:
            return None
        panel, module = _PLACES[cmd_name]
        found = get_command(import_module(module).app)
        command: Any = found.get_command(ctx, cmd_name) if isinstance(found, TyperGroup) else found
        command.rich_help_panel, command.rich_markup_mode = panel, self.rich_markup_mode
        command.short_help = command.help.partition("\n\n")[0]  # whole: typer would cut it in the reference
        convert_sparingly(command.get_params(ctx))
        return command

    def get_params(self, ctx: Any) -> list[Any]:
        return convert_sparingly(super().get_params(ctx))


def convert_sparingly(parameters: list[Any]) -> list[Any]:
    """The same parameters, each of which is converted only if that could change, or refuse, its value. Safe to repeat.

    typer converts each option with pydantic, also a text into a text. To import pydantic takes as long as all else that
    a command does before it asks the API.
    """
    for parameter in parameters:
        parameter.process_value = partial(_processed, parameter)
    return parameters


def _processed(parameter: Any, ctx: Any, value: Any) -> Any:
    if not _is_right(parameter, value):
        return type(parameter).process_value(parameter, ctx, value)
    value = list(value) if isinstance(value, tuple) else value
    return parameter.callback(ctx, parameter, value) if parameter.callback else value


def _is_right(parameter: Any, value: Any) -> bool:
    """Whether a value surely needs no conversion."""
    kind = getattr(parameter, "type_descriptor", None)
    annotation, choices = getattr(kind, "annotation", None), getattr(kind, "choices", None)
    if parameter.nargs != 1 or parameter.multiple:
        return bool(value) and annotation == list[str]
    if value is None:
        return not parameter.required
    if type(value) in {bool, str, int, float} and value == parameter.default:
        return True
    return value in choices if choices else annotation is str


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Jobs in containers, one at a time per named queue, with every secret under Vault."""


def app_main() -> None:
    """Run the command line."""
    open_streams()
    if "_STINT_COMPLETE" in os.environ:  # a shell asks; typer sets this up only for its own option
        from typer._completion_classes import completion_init  # noqa: PLC0415

        completion_init()
    prevent_core_dumps()  # also of the servers that `stint dev` starts
    with written():
        app(prog_name=Path(sys.argv[0]).name)
