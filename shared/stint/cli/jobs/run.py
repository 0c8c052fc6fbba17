"""`stint run` and `stint submit`."""

import asyncio
import os
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from stint.cli.calling import call
from stint.cli.errors import reported
from stint.cli.jobs.interrupts import Interrupts
from stint.cli.jobs.options import JobOptions
from stint.cli.jobs.run_job import RunOptions
from stint.cli.jobs.run_job import run as run_job
from stint.cli.options import taking
from stint.cli.show.form import ChangeForm, show_job_id
from stint.client.client import Client
from stint.core.errors import StintError
from stint.core.submission.payload import JobPayload

app = typer.Typer(add_completion=False)


@dataclass(kw_only=True)
class _Run(JobOptions):
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and do not wait.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the job's output, and errors.")] = False


@app.command(no_args_is_help=True)
@taking(_Run)
def run(options: _Run) -> None:
    """Run a job, show its output as it comes, and exit with its exit code.

    On a terminal Ctrl-C asks whether to leave the job or to kill it, and a second one kills it. Elsewhere Ctrl-C kills
    it at once, and so does SIGTERM.

    Exit codes besides the job's own: 1 the job failed without an exit code, 2 wrong option or setting, 125 Stint or
    Vault cannot be reached or refuses, 130 Ctrl-C and 143 SIGTERM.

    Examples:
    stint run --queue deploys --image busybox --secret PASSWORD@kv/data/demo.password -- cat /secrets.yml

    tar cz site | stint run --queue deploys --image busybox --content - -- ls /site
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    wanted = RunOptions(
        endpoints=where,
        job=job,
        key=options.key,
        wrap_ttl=options.wrap_ttl,
        detach=options.detach,
        quiet=options.quiet,
    )
    asyncio.run(_run_and_leave(wanted))


@dataclass(kw_only=True)
class _Submit(JobOptions):
    form: ChangeForm = "text"


@app.command(no_args_is_help=True)
@taking(_Submit)
def submit(options: _Submit) -> None:
    """Put a job into its queue, print its id, and do not wait for it.

    Example: stint wait $(stint submit --queue deploys --image busybox -- true)
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    show_job_id(options.form, call(lambda stint: _submit(stint, job, options), where=where))


async def _submit(stint: Client, job: JobPayload, options: JobOptions) -> str:
    sealed = await stint.seal(job, wrap_ttl=options.wrap_ttl)
    return (await stint.send(sealed, key=options.key)).id


async def _run_and_leave(options: RunOptions) -> NoReturn:
    """Exit without waiting for threads, because one may hang in a call to Vault or in a name look-up.

    Signals are handled to the very end, so that none reaches Python's own handler. All output has been flushed.
    """
    console = Console(stderr=True)
    interrupts = Interrupts(console)
    with interrupts.watched():
        os._exit(await run_job(options, console, interrupts=interrupts))
