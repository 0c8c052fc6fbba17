"""One call of the API, or a few, by a command."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from stint.cli import settings
from stint.cli.completing import job_ids
from stint.cli.errors import reported
from stint.client.client import Client
from stint.client.options import Endpoints
from stint.core.errors import ConfigError, InvalidJobIdError, InvalidQueueNameError

T = TypeVar("T")

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id.", autocompletion=job_ids)]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB_ID...", help="Ids of jobs.", autocompletion=job_ids)]
USAGE_ERRORS = (ConfigError, InvalidJobIdError, InvalidQueueNameError)


def call(
    work: Callable[[Client], Awaitable[T]], *, url: str = "", profile: str = "", where: Endpoints | None = None
) -> T:
    """Do the work with a client, which tries nothing twice: a person is waiting.

    Errors are printed, and end the command.
    """

    async def connected() -> T:
        async with Client.connect(where or settings.where(url, profile), patience=0) as stint:
            return await work(stint)

    with reported("stint", usage=USAGE_ERRORS):
        return asyncio.run(connected())
