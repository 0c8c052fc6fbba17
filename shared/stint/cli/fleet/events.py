"""`stint events`."""

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from stint.cli.calling import asking, filtered, queues
from stint.cli.jobs.ls import StatusName, outcome
from stint.cli.show.form import Form, FormName, as_json
from stint.cli.show.terminal import coloured, painted, printable
from stint.client import Client, JobChange

app = typer.Typer(add_completion=False)

MISSED: Final = "changes were missed: the connection was broken for too long"


@app.command()
@asking
async def events(
    stint: Client,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.", autocompletion=queues)] = None,
    status: Annotated[
        StatusName | None, typer.Option(help="Only jobs that have this status, or had it before.")
    ] = None,
    form: Form = "table",
) -> None:
    """Show the changes of all jobs as they come, until Ctrl-C. A broken connection is made again.

    Example: `stint events --status failed -o json | jq -r .job.error`
    """
    with filtered():
        async with aclosing(stint.events(queue=queue, status=status)) as changes:
            async for change in changes:
                if change.kind != "begun":
                    tell(change, form)


def tell(change: JobChange, form: FormName) -> None:
    """Print a change."""
    if form == "json":
        typer.echo(as_json(change))
    elif form == "name" and change.kind == "missed":
        typer.echo(f"stint: {MISSED}", err=True)
    elif form == "name":
        typer.echo(change.id)
    else:
        typer.echo(line(change, datetime.now(UTC)), color=coloured())


def line(change: JobChange, now: datetime) -> str:
    """A change for people."""
    if change.kind == "missed":
        return f"{now:%H:%M:%S}  {MISSED}"
    what = painted(change.job.status, printable(outcome(change.job))) if change.job else change.kind
    error = f"  {printable(change.job.error)}" if change.job and change.job.error else ""
    return f"{now:%H:%M:%S}  {change.id}  {printable(change.queue)}  {what}{error}"
