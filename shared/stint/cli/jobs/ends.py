"""`stint wait`."""

import asyncio
from typing import Annotated, Final

import typer

from stint.cli.calling import JobIds, asking, exact
from stint.cli.errors import TIMED_OUT
from stint.cli.jobs.ls import outcome
from stint.cli.show.form import ChangeForm, ChangeFormName, show_change
from stint.client import ApiUnreachableError, Client, JobHandle, JobInfo

LOOK: Final = 5.0
"""Seconds for the answer to the last look, when the time to wait is over."""

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
@asking
async def wait(
    stint: Client,
    jobs: JobIds,
    timeout: Annotated[  # noqa: ASYNC109 - an option
        float | None, typer.Option(min=0, help="Seconds to wait at most, 0 to only look; then exit with 124.")
    ] = None,
    form: ChangeForm = "text",
) -> None:
    """Wait until jobs have ended, print how each of them did, and exit with the first exit code that is not 0.

    A job that is deleted while it waits in its queue counts as one that failed.

    Example: `stint wait --timeout 600 $(stint submit --queue tests --image busybox -- true)`
    """
    results = await asyncio.gather(*[_end(exact(stint, job), timeout, form) for job in jobs])
    ended = [result for result in results if result]
    if len(ended) < len(results):
        typer.echo(f"stint: not all jobs have ended within {timeout:g} s; they continue", err=True)
        raise typer.Exit(TIMED_OUT)
    raise typer.Exit(next((result.exit_code for result in ended if not result.succeeded), 0))


async def _end(job: JobHandle, timeout: float | None, form: ChangeFormName) -> JobInfo | None:  # noqa: ASYNC109 - above
    """The job, once it is over. None if it is not within the timeout, after which it is looked at once more."""
    try:
        found = (await job.wait(timeout, output=False)).info
    except TimeoutError:
        found = await _look(job)
        if not found.ended:
            return None
    show_change(form, job.id, text=f"{job.id} {outcome(found)}", fields=found)
    return found


async def _look(job: JobHandle) -> JobInfo:
    try:
        async with asyncio.timeout(LOOK):
            return await job.info()
    except TimeoutError:
        unknown = f"Stint has not answered within {LOOK:g} s: it is not known whether job {job.id} has ended."
        raise ApiUnreachableError(unknown) from None
