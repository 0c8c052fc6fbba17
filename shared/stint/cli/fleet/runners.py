"""`stint runners` and `stint drain`."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from stint.cli.calling import asking
from stint.cli.calling import runners as known
from stint.cli.show.form import ChangeForm, Column, Form, show_all, show_change
from stint.cli.show.terminal import lasted, painted
from stint.client import Client, RunnerInfo

app = typer.Typer(add_completion=False)


def state(runner: RunnerInfo) -> str:
    """Whether it takes jobs."""
    if not runner.alive:
        return f"lost {lasted(runner.last_seen)} ago"
    return "draining" if runner.draining else "alive"


_COLOURS: Final = {"alive": "success", "draining": "stopping"}
COLUMNS: Final[Sequence[Column[RunnerInfo]]] = (
    Column("RUNNER", lambda runner: runner.name),
    Column("STATE", state, firm=True, paint=lambda runner, cell: painted(_COLOURS.get(state(runner), "failed"), cell)),
    Column("JOBS", lambda runner: f"{len(runner.running)}/{runner.capacity}", firm=True),
    Column("UP", lambda runner: lasted(runner.started), firm=True),
    Column("QUEUES", lambda runner: " ".join(runner.queues) or "all"),
    Column("VERSION", lambda runner: runner.version),
    Column("SEEN", lambda runner: lasted(runner.last_seen), wide=True),
    Column("ENGINE", lambda runner: str(runner.engine.get("operating_system", "")), wide=True),
)


@app.command()
@asking
async def runners(stint: Client, form: Form = "table") -> None:
    """List the runners of the last day: those that are alive, and those that were lost.

    Example: `stint runners -o json | jq -r 'select(.alive | not) | .runner'`
    """
    show_all(await stint.runners(), COLUMNS, form, name=lambda found: found.name)


@app.command(no_args_is_help=True)
@asking
async def drain(
    stint: Client,
    runner: Annotated[str, typer.Argument(metavar="RUNNER", help="The runner's name.", autocompletion=known)],
    form: ChangeForm = "text",
) -> None:
    """Ask a runner to take no more jobs. Its process ends after its last job. Needs a token that may drain it.

    Example: `stint drain runner-1`
    """
    await stint.drain(runner)
    text = f"Runner {runner} was asked to drain; `stint runners` shows when it does."
    show_change(form, runner, text=text, fields={"runner": runner, "asked": True})
