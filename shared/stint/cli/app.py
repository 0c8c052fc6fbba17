"""The command line's commands."""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from stint import __version__
from stint.cli.dev.command import dev
from stint.cli.extras import MissingExtraError, importing
from stint.cli.release import release
from stint.cli.run import run
from stint.cli.run_job import USAGE
from stint.cli.vault import vault_setup

app = typer.Typer(
    help="Jobs in containers, one at a time per named queue, with every secret under Vault.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _service(name: str, *, extra: str) -> None:
    """Run a service, which reads its settings from the environment, and exit with its code."""
    service = next(iter(entry_points(group="stint.services", name=name)))
    try:
        with importing(extra):
            main = service.load()
    except MissingExtraError as error:
        typer.echo(f"stint {name}: {error.sentence}", err=True)
        raise typer.Exit(USAGE) from None
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
def rebuild() -> None:
    """Delete the view and compute it again from the event log."""
    _service("rebuild", extra="projector")


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


app.command(name="run", no_args_is_help=True)(run)
app.command(name="release", no_args_is_help=True)(release)
app.command(name="vault-setup")(vault_setup)
app.command(name="dev")(dev)


def app_main() -> None:
    """Run the command line."""
    app(prog_name=Path(sys.argv[0]).name)
