"""`stint events` and `stint top`: what changes, line by line and as a board that also shows who runs it."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import typer

from stint.cli.calling import asking, call, filtered, first, queues
from stint.cli.errors import TERMINATED, say
from stint.cli.fleet.queues import QUEUES, RUNNERS
from stint.cli.jobs.ls import COLUMNS as JOBS
from stint.cli.jobs.ls import StatusName, outcome
from stint.cli.settings import Profile, Url
from stint.cli.show.form import Form, FormName, as_json, table
from stint.cli.show.terminal import coloured, painted, printable
from stint.client import ApiError, Client, JobChange, JobInfo, QueueInfo, RunnerInfo
from stint.client.rest.api import silent

app = typer.Typer(add_completion=False)

MISSED: Final = "changes were missed: the connection was broken for too long"

CALM: Final = 0.5
"""Seconds between two looks, however many jobs change."""
LAST: Final = 100
"""Jobs that are asked for; the board shows as many as find room."""


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
        say(MISSED)
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


class Board(msgspec.Struct, frozen=True):
    """What is shown."""

    queues: Sequence[QueueInfo]
    runners: Sequence[RunnerInfo]
    jobs: Sequence[JobInfo]
    counts: dict[str, int]


@app.command()
def top(
    *,
    interval: Annotated[float, typer.Option(min=1, help="Seconds after which it looks anew, if no job changed.")] = 5,
    once: Annotated[bool, typer.Option("--once", help="Print the board once, as in a pipe or with TERM=dumb.")] = False,
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Show queues, runners and the last jobs on a board that changes as they do, until Ctrl-C.

    Example: `stint top --once`
    """
    # The board itself says that Stint is away: a line on standard error would stand in it.
    call(lambda stint: _top(stint, interval, once=once), url=url, profile=profile, tell=silent)


async def _top(stint: Client, interval: float, *, once: bool) -> None:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not once:
        raise typer.Exit(await _live(stint, interval))
    for line in lines(await look(stint), width=None, height=None):
        typer.echo(line)


async def _live(stint: Client, interval: float) -> int:
    """Draw until a signal comes; returns its exit code. The terminal is given back as it was."""
    changed, ends = asyncio.Event(), list[int]()
    watching = asyncio.create_task(_watch(stint, changed))
    drawing = asyncio.create_task(_draw(stint, interval, changed))

    def end(code: int) -> None:
        ends.append(code)
        drawing.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, end, 0)  # that is how one leaves it
    loop.add_signal_handler(signal.SIGTERM, end, TERMINATED)
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        await drawing
    except asyncio.CancelledError:
        if not ends:
            raise
    finally:
        watching.cancel()
    return ends[0]


async def _draw(stint: Client, interval: float, changed: asyncio.Event) -> None:
    """Draw anew when any job changes, and also when time has passed, because waiting times grow."""
    from rich.console import Console  # noqa: PLC0415 - for this command alone
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            changed.clear()
            try:
                shown = lines(await look(stint), width=console.width, height=console.height)
                drawn = Text.from_ansi("\n".join(shown), no_wrap=True, overflow="ellipsis")
            except ApiError as error:
                drawn = Text(error.sentence)
            screen.update(drawn, refresh=True)
            await asyncio.sleep(CALM)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval - CALM):
                    await changed.wait()


async def _watch(stint: Client, changed: asyncio.Event) -> None:
    """Without the stream of changes the board is drawn anew by time alone."""
    with suppress(ApiError):
        async with aclosing(stint.events()) as changes:
            async for _ in changes:
                changed.set()


async def look(stint: Client) -> Board:
    """What is to be shown now."""
    queues, runners, jobs, counts = await asyncio.gather(
        stint.queues(), stint.runners(), first(LAST, stint.jobs), stint.counts()
    )
    return Board(queues, runners, jobs, dict(counts))


def lines(board: Board, *, width: int | None, height: int | None) -> list[str]:
    """The board; held queues come first, then those that run a job, and each table has a third of the height."""
    counts = "  ".join(f"{count} {status}" for status, count in board.counts.items() if count)
    room = None if height is None else max((height - 6) // 3, 2)
    urgent = sorted(
        board.queues, key=lambda queue: (not queue.held, not queue.running, queue.paused is None, -queue.depth)
    )
    tables = (
        table(urgent[:room], QUEUES, width=width),
        table(board.runners[:room], RUNNERS, width=width),
        table(board.jobs[:room], JOBS, width=width),
    )
    return [printable(counts) or "no jobs", *(line for part in tables for line in ("", *part))]
