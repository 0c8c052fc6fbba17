"""`stint logs`."""

from contextlib import aclosing
from typing import Annotated, Literal

import typer

from stint.cli.calling import PartOfJobId, asking, find
from stint.cli.errors import NOT_SO
from stint.cli.jobs.writing import ClosedOutputError, to_terminal
from stint.client import Client, JobHandle, Output

app = typer.Typer(add_completion=False)

Stream = Literal["stdout", "stderr"]


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
