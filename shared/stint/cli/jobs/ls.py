"""`stint ls`, `stint show` and `stint logs`."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Final, Literal, cast

import typer

from stint.cli.calling import PartOfJobId, asking, find, first, queues
from stint.cli.errors import NOT_SO, say
from stint.cli.jobs.writing import ClosedOutputError, to_terminal
from stint.cli.show.form import Column, Form, show_all
from stint.cli.show.form import show as show_form
from stint.cli.show.terminal import lasted, moment, painted
from stint.client import Client, JobFilter, JobHandle, JobInfo, Output

app = typer.Typer(add_completion=False)

SHOWN: Final = 20
"""How many jobs are shown without a limit, unless their ids are for another command."""
StatusName = Literal["queued", "running", "stopping", "success", "failed", "notauthorised", "unknown"]


Stream = Literal["stdout", "stderr"]


def outcome(job: JobInfo) -> str:
    """The status, with what explains it."""
    if job.held:
        return f"{job.status}, held"
    why = "" if job.deleted else str(job.return_code or job.reason or "")
    return f"{job.status} ({why})" if why else job.status


COLUMNS: Final[Sequence[Column[JobInfo]]] = (
    Column("ID", lambda job: job.id, firm=True),
    Column("QUEUE", lambda job: job.queue),
    Column("STATUS", outcome, firm=True, paint=lambda job, cell: painted(job.status, cell)),
    Column("AGE", lambda job: lasted(job.submitted), firm=True),
    Column("TOOK", lambda job: lasted(job.started, job.ended), firm=True),
    Column("IMAGE", lambda job: job.image),
    Column("RUNNER", lambda job: job.runner, wide=True),
    Column("BY", lambda job: job.submitted_by, wide=True),
    Column("OUTPUT", lambda job: f"{job.output_bytes}{'' if job.output_complete else '?'}", wide=True),
    Column("ERROR", lambda job: job.error, wide=True),
)


@app.command()
@asking
async def ls(
    stint: Client,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.", autocompletion=queues)] = None,
    status: Annotated[StatusName | None, typer.Option(help="Only jobs with this status.")] = None,
    held: Annotated[bool, typer.Option("--held", help="Only jobs whose queue waits for their lost runner.")] = False,
    since: Annotated[str, typer.Option(help="Only jobs submitted since: a time (RFC 3339), or 12h, 7d.")] = "",
    until: Annotated[str, typer.Option(help="Only jobs submitted before: a time, as for --since.")] = "",
    part: Annotated[str, typer.Option("--id", help="Only jobs whose id begins or ends like this.")] = "",
    image: Annotated[str, typer.Option(help="Only jobs whose image's name contains this.")] = "",
    who: Annotated[str, typer.Option(help="Only jobs that this display name submitted.")] = "",
    text: Annotated[str, typer.Option(help="Only jobs whose reason or error contains this.")] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help=f"How many jobs to show at most: {SHOWN}, and with -o name all."),
    ] = None,
    form: Form = "table",
) -> None:
    """List jobs, the last submitted first.

    For example:

        stint ls --queue deploys --since 12h

        stint ls --status failed -o json | jq -r .error
    """
    times = {name: moment(f"--{name}", at) for name, at in (("since", since), ("until", until)) if at}
    texts = {"status": status, "id": part, "image": image, "who": who, "text": text}
    given = {name: value for name, value in texts.items() if value} | times | ({"held": True} if held else {})
    wanted = cast("JobFilter", given if queue is None else {"queue": queue, **given})
    bound = limit is None and form != "name"
    found = await first(SHOWN + 1 if bound else limit, stint.jobs, **wanted)
    more = bound and len(found) > SHOWN
    show_all(found[:SHOWN] if more else found, COLUMNS, form, name=lambda job: job.id)
    if more:
        say(f"There are more jobs than these {SHOWN}: --limit says how many to show.")


@app.command(no_args_is_help=True)
@asking
async def show(stint: Client, job: PartOfJobId, form: Form = "table") -> None:
    """Show a job: its status, its times, and why it ended.

    Example: `stint show 65f0c2a19b3e4d5f6a7b8c9d -o json | jq .node_uuid`
    """
    found = await find(stint, job)
    show_form(await found.info(), form, name=lambda job: job.id)


@app.command(no_args_is_help=True)
@asking
async def logs(
    stint: Client,
    job: PartOfJobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue as output comes, until the job ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, help="Only about so many last lines. Without --follow exactly so many.")
    ] = None,
    stream: Annotated[Stream | None, typer.Option(help="Only this stream.")] = None,
) -> None:
    """Show what a job wrote, each byte as it was: both streams on standard output, in the order in which they came.

    For example:

        stint logs -f 65f0c2a19b3e4d5f6a7b8c9d

        stint logs --tail 20 --stream stderr 65f0c2a19b3e4d5f6a7b8c9d
    """
    found = await find(stint, job)
    try:
        if follow:
            await _follow(found, tail, stream)
        else:
            await to_terminal("stdout", await found.output(stream=stream, tail=tail))
    except ClosedOutputError:  # as in `| head`: the other commands are silent then, too
        raise typer.Exit(NOT_SO) from None


async def _follow(job: JobHandle, tail: int | None, stream: Stream | None) -> None:
    async with aclosing(job.stream(tail=tail)) as items:
        async for item in items:
            if isinstance(item, Output) and (stream is None or (item.stream == "stderr") == (stream == "stderr")):
                await to_terminal("stdout", item.data)
