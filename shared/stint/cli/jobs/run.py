"""`stint run` and `stint submit`."""

import asyncio
import os
from dataclasses import dataclass
from typing import NoReturn

import typer
from rich.console import Console

from stint.cli.calling import call
from stint.cli.errors import reported
from stint.cli.jobs.interrupts import Interrupts
from stint.cli.jobs.options import JobOptions, RunOptions
from stint.cli.jobs.run_job import run as run_job
from stint.cli.options import taking
from stint.cli.show.form import ChangeForm, show_job_id
from stint.client import Client, Endpoints
from stint.core.errors import StintError
from stint.core.submission.payload import JobPayload

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
@taking(RunOptions)
def run(options: RunOptions) -> None:
    """Run a job, show its output as it comes, and exit with its exit code.

    On a terminal Ctrl-C asks whether to leave the job or to kill it, and a second one kills it. Elsewhere Ctrl-C kills
    it at once, and so does SIGTERM.

    Exit codes besides the job's own: 1 the job failed without an exit code, 2 wrong option or setting, 125 Stint or
    Vault cannot be reached or refuses, 130 Ctrl-C and 143 SIGTERM.

    For example:

        stint run --queue deploys --image busybox --secret PASSWORD@kv/data/demo.password -- cat /secrets.yml

        tar cz site | stint run --queue deploys --image busybox --content - -- ls /site
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    asyncio.run(_run_and_leave(job, where, options))


@dataclass(kw_only=True)
class _Submit(JobOptions):
    form: ChangeForm = "text"


@app.command(no_args_is_help=True)
@taking(_Submit)
def submit(options: _Submit) -> None:
    """Put a job into its queue, print its id, and do not wait for it.

    Example: `stint wait $(stint submit --queue deploys --image busybox -- true)`
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    show_job_id(options.form, call(lambda stint: _submit(stint, job, options), where=where))


async def _submit(stint: Client, job: JobPayload, options: JobOptions) -> str:
    sealed = await stint.seal(job, wrap_ttl=options.wrap_ttl)
    return (await stint.send(sealed, key=options.key)).id


async def _run_and_leave(job: JobPayload, where: Endpoints, options: RunOptions) -> NoReturn:
    """Exit without waiting for threads, because one may hang in a call to Vault or in a name look-up.

    Signals are handled to the very end, so that none reaches Python's own handler. All output has been flushed.
    """
    interrupts = Interrupts(Console(stderr=True))
    with interrupts.watched():
        os._exit(await run_job(job, where, options, interrupts))
