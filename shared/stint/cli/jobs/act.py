"""`stint kill`, `stint rm`, `stint rerun`, `stint release` and `stint wait`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final

import typer

from stint.cli.calling import JobId, JobIds, asking, exact
from stint.cli.errors import TIMED_OUT, UNREACHABLE, say
from stint.cli.jobs.ls import outcome
from stint.cli.show.form import ChangeForm, ChangeFormName, show_change, show_job_id, show_new_job
from stint.client import ApiRefusedError, ApiUnreachableError, Client, JobHandle, JobInfo
from stint.client.options import DEFAULT_WRAP_TTL

app = typer.Typer(add_completion=False)

LOOK: Final = 5.0
"""Seconds for the answer to the last look, when the time to wait is over."""


@app.command(no_args_is_help=True)
@asking
async def kill(stint: Client, jobs: JobIds, form: ChangeForm = "text") -> None:
    """Kill jobs: a queued job ends at once, a running one gets SIGTERM, and later SIGKILL. Prints their ids.

    Example: `stint ls --status running -o name | xargs -r stint kill`
    """
    await _each(stint, jobs, JobHandle.kill, form)


@app.command(no_args_is_help=True)
@asking
async def rm(stint: Client, jobs: JobIds, form: ChangeForm = "text") -> None:
    """Delete jobs that are not running, and their output. A queued one never runs. Prints their ids.

    Example: `stint ls --status failed -o name | xargs -r stint rm`
    """
    await _each(stint, jobs, JobHandle.delete, form)


@app.command(no_args_is_help=True)
@asking
async def rerun(
    stint: Client,
    job: JobId,
    key: Annotated[str, typer.Option(help="Names the new job, as with `stint run`.")] = "",
    wrap_ttl: Annotated[str, typer.Option(help="How long it may wait in its queue: 90m, 24h, 7d.")] = DEFAULT_WRAP_TTL,
    form: ChangeForm = "text",
) -> None:
    """Run a job again that is over, with the same sealed payload, and print the new job's id.

    Example: `stint logs -f $(stint rerun 65f0c2a19b3e4d5f6a7b8c9d)`
    """
    show_new_job(form, (await stint.rerun(exact(stint, job).id, key=key, wrap_ttl=wrap_ttl)).id)


@app.command(no_args_is_help=True)
@asking
async def release(stint: Client, job: JobId, form: ChangeForm = "text") -> None:
    """Give up the lost runner of a held job: the job ends as unknown, and its queue continues.

    First make sure that the job's container is gone. Needs a token with the policy stint-operator.

    Example: `stint ls --held -o name | xargs -rn 1 stint release`
    """
    held = exact(stint, job)
    before = await held.release()
    text = (
        f"Job {held.id} had already been released."
        if before == "unknown"
        else f"Job {held.id}, which was {before}, is released: it has ended as unknown, and its queue continues."
    )
    show_change(form, held.id, text=text, fields={"_id": held.id, "previous_status": before})


async def _each(
    stint: Client, jobs: Sequence[str], action: Callable[[JobHandle], Awaitable[None]], form: ChangeFormName
) -> None:
    refused = False
    for job in [exact(stint, job) for job in jobs]:
        try:
            await action(job)
        except ApiRefusedError as error:
            about = "" if job.id in error.sentence else f"{job.id}: "
            say(f"{about}{error.sentence}")
            refused = True
        else:
            show_job_id(form, job.id)
    if refused:
        raise typer.Exit(UNREACHABLE)


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
        say(f"not all jobs have ended within {timeout:g} s; they continue")
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
