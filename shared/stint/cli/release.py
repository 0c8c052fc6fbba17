"""`stint release`."""

import asyncio
import os
from typing import Annotated

import typer

from stint.cli.errors import reported
from stint.client import Client, Endpoints, endpoints
from stint.core.errors import ConfigError, InvalidJobIdError
from stint.core.subjects import check_job_id

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def release(
    job: Annotated[str, typer.Argument(metavar="JOB_ID", help="The held job.")],
    url: Annotated[str, typer.Option(envvar="STINT_URL", help="Stint's API.")] = "",
) -> None:
    """Give up the lost runner of a held job: the job ends as unknown, and its queue continues.

    First make sure that the job's container is gone. Needs STINT_TOKEN (or VAULT_TOKEN) with the policy stint-operator.

    Exit codes: 2 wrong option or setting, 125 Stint cannot be reached or refuses.
    """
    with reported("stint", usage=(ConfigError, InvalidJobIdError)):
        typer.echo(asyncio.run(_release(endpoints(os.environ, url=url), check_job_id(job))))


async def _release(where: Endpoints, job_id: str) -> str:
    """Release the job; returns a message that says what was done."""
    async with Client.connect(where) as stint:
        before = await stint.job(job_id).release()
    if before == "unknown":
        return f"Job {job_id} had already been released."
    return f"Job {job_id}, which was {before}, is released: it has ended as unknown, and its queue continues."
