"""`stint wait` and `stint verify`."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final

import typer

from stint.cli.calling import JobIds, asking, call, exact
from stint.cli.completing import job_ids
from stint.cli.errors import NOT_SO, TIMED_OUT
from stint.cli.jobs.ls import outcome
from stint.cli.jobs.receipt import verify_receipt
from stint.cli.settings import Profile, Url
from stint.cli.show.form import ChangeForm, ChangeFormName, show_change
from stint.client.client import Client
from stint.client.errors import ApiUnreachableError, OutputDiffersError
from stint.client.job import JobHandle
from stint.client.results import JobInfo, JobResult
from stint.core.names.ids import is_job_id

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

    Example: `stint wait --timeout 600 $(stint submit --queue tests --image busybox -- true)`
    """
    results = await asyncio.gather(*[_end(exact(stint, job), timeout, form) for job in jobs])
    ended = [result for result in results if result]
    if len(ended) < len(results):
        typer.echo(f"stint: not all jobs have ended within {timeout:g} s; they continue", err=True)
        raise typer.Exit(TIMED_OUT)
    raise typer.Exit(next((result.exit_code for result in ended if not result.succeeded), 0))


async def _end(job: JobHandle, timeout: float | None, form: ChangeFormName) -> JobInfo | None:  # noqa: ASYNC109 - above
    """The job, once it has ended. None if it has not within the timeout, after which it is looked at once more.

    Raises:
        ApiUnreachableError: that look has no answer either.
    """
    try:
        async with asyncio.timeout(timeout):
            found = await _result(job)
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


async def _result(job: JobHandle) -> JobInfo:
    """What the job's live stream says at its end. Its output is not read."""
    async with aclosing(job.stream(tail=0)) as items:
        async for item in items:
            if isinstance(item, JobResult):
                return item.info
    raise AssertionError("A stream ends with a result, or raises.")


@app.command(no_args_is_help=True)
def verify(
    target: Annotated[
        str, typer.Argument(metavar="JOB_ID|FILE", help="A job, or a receipt of one.", autocompletion=job_ids)
    ],
    public_key: Annotated[
        Path | None,
        typer.Option(envvar="STINT_PUBLIC_KEY", help="For a receipt: what `stint receipt --public-key` printed."),
    ] = None,
    form: ChangeForm = "text",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Prove that a job's output is what its runner recorded, or that a receipt is genuine.

    Of a job all of its output is read, once it has ended. A receipt is checked without any server; write ./NAME if its
    file is named like a job's id.

    Exit codes: 1 it is not, or nobody can tell, because the runner did not record that the output is complete, or the
    receipt was signed by another key.

    For example:

        stint verify 65f0c2a19b3e4d5f6a7b8c9d

        stint receipt --public-key >stint.keys; stint verify receipt.json --public-key stint.keys
    """
    if not is_job_id(target):
        verify_receipt(Path(target), public_key, form)
        return
    proven, said = call(lambda stint: _verify(stint.job(target)), url=url, profile=profile)
    show_change(form, target, text=f"{target}: {said}", fields={"_id": target, "proven": proven, "said": said})
    raise typer.Exit(0 if proven else NOT_SO)


async def _verify(job: JobHandle) -> tuple[bool, str]:
    """Whether its output is proven, and that as a sentence."""
    try:
        result = await job.wait()
    except OutputDiffersError as error:
        return False, error.sentence
    if not result.output_complete:
        return False, f"{result.output_bytes} bytes; its runner did not record that they are all."
    return True, f"{result.output_bytes} bytes, all of them and in order, as {result.runner} recorded."
