"""The command line's commands."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from stint import __version__
from stint.cli.conversion import convert_sparingly
from stint.cli.errors import importing, reported
from stint.cli.streams import open_streams, written
from stint.process.core_dumps import prevent_core_dumps

_MODULES: Final = {
    "run": "stint.cli.jobs.run",
    "submit": "stint.cli.jobs.run",
    "ls": "stint.cli.jobs.ls",
    "show": "stint.cli.jobs.ls",
    "logs": "stint.cli.jobs.logs",
    "wait": "stint.cli.jobs.ends",
    "verify": "stint.cli.jobs.ends",
    "receipt": "stint.cli.jobs.receipt",
    "history": "stint.cli.jobs.history",
    "kill": "stint.cli.jobs.act",
    "rm": "stint.cli.jobs.act",
    "rerun": "stint.cli.jobs.act",
    "release": "stint.cli.jobs.act",
    "queues": "stint.cli.fleet.queues",
    "pause": "stint.cli.fleet.queues",
    "resume": "stint.cli.fleet.queues",
    "runners": "stint.cli.fleet.runners",
    "drain": "stint.cli.fleet.runners",
    "top": "stint.cli.fleet.top",
    "events": "stint.cli.fleet.events",
    "doctor": "stint.cli.doctor.command",
    "login": "stint.cli.login.command",
    "config": "stint.cli.config",
    "completion": "stint.cli.config",
    "audit": "stint.cli.audit",
    "lineage": "stint.cli.audit",
    "vault-setup": "stint.cli.vault_setup",
    "nats-config": "stint.natsauth.command",
    "nats-auth": "stint.natsauth.callout.command",
    "subscribe": "stint.natsauth.subscribe",
    "health": "stint.cli.health",
    "dev": "stint.cli.dev.command",
    "demo": "stint.cli.dev.demo",
}
"""Where the commands are: the `app` of a module is a command, or a few that belong together."""


class _Commands(TyperGroup):
    """Imports only the module of the command that is used: `stint health` runs every few seconds."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_MODULES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if module := _MODULES.get(cmd_name):
            found = get_command(import_module(module).app)
            command: Any = found.get_command(ctx, cmd_name) if isinstance(found, TyperGroup) else found
            convert_sparingly(command.get_params(ctx))
            return command
        return super().get_command(ctx, cmd_name)

    def get_params(self, ctx: Any) -> list[Any]:
        return convert_sparingly(super().get_params(ctx))


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


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


def _service(name: str, *, extra: str) -> None:
    """Run a service, which reads its settings from the environment, and exit with its code."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - it takes 15 ms to import

    service = next(iter(entry_points(group="stint.services", name=name)))
    with reported(f"stint {name}"), importing(extra):
        main = service.load()
    raise typer.Exit(main())


@app.command()
def api() -> None:
    """Serve the REST API."""
    _service("api", extra="api")


@app.command()
def runner() -> None:
    """Take jobs from their queues and run them."""
    _service("runner", extra="runner")


@app.command()
def projector() -> None:
    """Keep the queryable view of the jobs up to date."""
    _service("projector", extra="projector")


@app.command()
def schema() -> None:
    """Print the contract of the bus: an AsyncAPI 3 document of all subjects, headers and messages on NATS."""
    from stint.core.schema import asyncapi  # noqa: PLC0415 - for this command alone

    typer.echo(json.dumps(asyncapi(__version__), indent=2))


@app.command()
def rebuild() -> None:
    """Delete the view and compute it again from the event log."""
    _service("rebuild", extra="projector")


def app_main() -> None:
    """Run the command line."""
    open_streams()
    if "_STINT_COMPLETE" in os.environ:  # a shell asks; typer sets this up only for its own option
        from typer._completion_classes import completion_init  # noqa: PLC0415

        completion_init()
    prevent_core_dumps()  # also of the servers that `stint dev` starts
    with written():
        app(prog_name=Path(sys.argv[0]).name)
