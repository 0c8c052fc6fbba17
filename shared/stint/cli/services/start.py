"""`stint api`, `stint runner`, `stint projector` and `stint rebuild`; and `stint schema`, the contract between them."""

import json
from importlib.metadata import entry_points

import typer

from stint import __version__
from stint.cli.errors import importing, reported

app = typer.Typer(add_completion=False)


def _service(name: str, *, extra: str) -> None:
    """Run a service, which reads its settings from the environment, and exit with its code."""
    service = next(iter(entry_points(group="stint.services", name=name)))
    with reported(f"stint {name}"), importing(extra):
        main = service.load()
    raise typer.Exit(main())


@app.command()
def api() -> None:
    """Serve the REST API. Its settings are environment variables, which the documentation lists."""
    _service("api", extra="api")


@app.command()
def runner() -> None:
    """Take jobs from their queues and run them. Its settings are environment variables, as those of the API."""
    _service("runner", extra="runner")


@app.command()
def projector() -> None:
    """Keep the view up to date from which lists of jobs are answered. Its settings are environment variables."""
    _service("projector", extra="projector")


@app.command()
def rebuild() -> None:
    """Compute the view again from the event log. The other services may run meanwhile.

    With the accounts of `stint nats-config` it needs the operator's key, in STINT_NATS_NKEY_FILE, and no
    STINT_JS_PREFIX.

    Exit codes: 2 wrong setting, or a user to whom NATS does not permit it, 69 NATS has closed the connection.
    """
    _service("rebuild", extra="projector")


@app.command()
def schema() -> None:
    """Print the contract of the bus: an AsyncAPI 3 document of all subjects, headers and messages on NATS."""
    from stint.core.schema import asyncapi  # noqa: PLC0415 - for this command alone

    typer.echo(json.dumps(asyncapi(__version__), indent=2))
