"""`stint queues`, `stint pause` and `stint resume`; `stint runners` and `stint drain`."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from stint.cli.calling import asking
from stint.cli.calling import queues as known_queues
from stint.cli.calling import runners as known_runners
from stint.cli.show.form import ChangeForm, Column, Form, show, show_all, show_change
from stint.cli.show.terminal import lasted, painted, seconds
from stint.client import Client, QueueInfo, RunnerInfo

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.", autocompletion=known_queues)]


def queue_state(queue: QueueInfo) -> str:
    """Whether a person must do something, in a few words."""
    if queue.held:
        return f"held {lasted(queue.held_since)}"
    if queue.paused:
        return f"paused by {queue.paused.who}{f': {queue.paused.reason}' if queue.paused.reason else ''}"
    return "ok" if queue.served or not queue.depth else "no runner serves it"


def _waiting(queue: QueueInfo) -> str:
    return "1 job waits" if queue.depth == 1 else f"{queue.depth} jobs wait"


_COLOURS: Final = {"ok": "success", "alive": "success", "draining": "stopping"}
QUEUES: Final[Sequence[Column[QueueInfo]]] = (
    Column("QUEUE", lambda queue: queue.name),
    Column("WAIT", lambda queue: str(queue.depth), firm=True),
    Column("OLDEST", lambda queue: seconds(queue.oldest_wait) if queue.depth else "-", firm=True),
    Column("RUNNING", lambda queue: queue.running or "-", firm=True),
    Column("STATE", queue_state, paint=lambda queue, cell: painted(_COLOURS.get(queue_state(queue), "failed"), cell)),
    Column("ENDED/H", lambda queue: str(queue.ended_last_hour), firm=True),
    Column("FAILED/H", lambda queue: str(queue.failed_last_hour), firm=True),
    Column("CONTACT", lambda queue: lasted(queue.last_contact), wide=True),
)


@app.command()
@asking
async def queues(
    stint: Client,
    queue: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="Only this one, with its jobs.", autocompletion=known_queues)
    ] = None,
    form: Form = "table",
) -> None:
    """List the queues: how many jobs wait, for how long, which one runs, and whether somebody must do something.

    Example: `stint queues -o json | jq -r 'select(.held) | .qname'`
    """
    if queue is not None:
        show(await stint.queue(queue), form, name=lambda found: found.name)
        return
    show_all(await stint.queues(), QUEUES, form, name=lambda found: found.name)


@app.command(no_args_is_help=True)
@asking
async def pause(
    stint: Client,
    queue: Name,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for all who see the queue.")] = "",
    form: ChangeForm = "text",
) -> None:
    """Pause a queue: its running job continues, and no further one starts. Needs a token that may pause it.

    Example: `stint pause deploys --reason 'The database is being moved.'`
    """
    found = await stint.pause(queue, reason=reason)
    show_change(form, found.name, text=f"Queue {found.name!r} is paused; {_waiting(found)}.", fields=found)


@app.command(no_args_is_help=True)
@asking
async def resume(stint: Client, queue: Name, form: ChangeForm = "text") -> None:
    """Resume a queue: its next job starts. Needs a token that may pause it.

    Example: `stint resume deploys`
    """
    found = await stint.resume(queue)
    show_change(form, found.name, text=f"Queue {found.name!r} continues; {_waiting(found)}.", fields=found)


def runner_state(runner: RunnerInfo) -> str:
    """Whether it takes jobs."""
    if not runner.alive:
        return f"lost {lasted(runner.last_seen)} ago"
    return "draining" if runner.draining else "alive"


RUNNERS: Final[Sequence[Column[RunnerInfo]]] = (
    Column("RUNNER", lambda runner: runner.name),
    Column(
        "STATE",
        runner_state,
        firm=True,
        paint=lambda runner, cell: painted(_COLOURS.get(runner_state(runner), "failed"), cell),
    ),
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
    show_all(await stint.runners(), RUNNERS, form, name=lambda found: found.name)


@app.command(no_args_is_help=True)
@asking
async def drain(
    stint: Client,
    runner: Annotated[str, typer.Argument(metavar="RUNNER", help="The runner's name.", autocompletion=known_runners)],
    form: ChangeForm = "text",
) -> None:
    """Ask a runner to take no more jobs. Its process ends after its last job. Needs a token that may drain it.

    Example: `stint drain runner-1`
    """
    await stint.drain(runner)
    text = f"Runner {runner} was asked to drain; `stint runners` shows when it does."
    show_change(form, runner, text=text, fields={"runner": runner, "asked": True})
