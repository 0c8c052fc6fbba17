"""The command line's commands."""

import os
import sys
from collections.abc import Mapping
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

_PANELS: Final[Mapping[str, Mapping[str, str]]] = {
    "Jobs": {
        "run": "stint.cli.jobs.run",
        "submit": "stint.cli.jobs.run",
        "ls": "stint.cli.jobs.ls",
        "show": "stint.cli.jobs.ls",
        "logs": "stint.cli.jobs.ls",
        "wait": "stint.cli.jobs.act",
        "history": "stint.cli.jobs.history",
        "kill": "stint.cli.jobs.act",
        "rm": "stint.cli.jobs.act",
        "rerun": "stint.cli.jobs.act",
        "release": "stint.cli.jobs.act",
        "verify": "stint.cli.jobs.receipt",
        "receipt": "stint.cli.jobs.receipt",
        "audit": "stint.cli.audit",
        "lineage": "stint.cli.audit",
    },
    "Queues and runners": {
        "queues": "stint.cli.fleet.queues",
        "pause": "stint.cli.fleet.queues",
        "resume": "stint.cli.fleet.queues",
        "runners": "stint.cli.fleet.queues",
        "drain": "stint.cli.fleet.queues",
        "top": "stint.cli.fleet.events",
        "events": "stint.cli.fleet.events",
    },
    "Settings": {
        "login": "stint.cli.login",
        "config": "stint.cli.config",
        "doctor": "stint.cli.doctor.command",
        "completion": "stint.cli.config",
    },
    "Services": {
        "dev": "stint.cli.dev.command",
        "demo": "stint.cli.dev.command",
        "api": "stint.cli.services.start",
        "runner": "stint.cli.services.start",
        "projector": "stint.cli.services.start",
        "nats-auth": "stint.natsauth.callout.command",
        "rebuild": "stint.cli.services.start",
        "health": "stint.cli.services.health",
    },
    "What services need": {
        "vault-setup": "stint.cli.services.vault_setup",
        "nats-config": "stint.natsauth.command",
        "subscribe": "stint.natsauth.subscribe",
        "schema": "stint.cli.services.start",
    },
}
"""Where the commands are, in the order in which `--help` shows them: the `app` of a module is one, or a few."""


class _Commands(TyperGroup):
    """Imports only the module of the command that is used: `stint health` runs every few seconds."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's
        return [name for modules in _PANELS.values() for name in modules]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        panel = next((panel for panel, modules in _PANELS.items() if cmd_name in modules), None)
        if panel is None:
            return None
        found = get_command(import_module(_PANELS[panel][cmd_name]).app)
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
