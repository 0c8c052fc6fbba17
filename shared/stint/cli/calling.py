"""One call of the API, or a few, by a command."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from inspect import Parameter
from typing import Annotated, Any, Final, TypeVar

import typer

from stint.cli import settings
from stint.cli.completing import job_ids
from stint.cli.errors import reported, say
from stint.cli.listing import first
from stint.cli.options import as_command
from stint.client import Client, Endpoints, JobHandle
from stint.core.errors import ConfigError, InvalidJobIdError, InvalidQueueNameError
from stint.core.names.ids import is_job_id

T = TypeVar("T")

_PART: Final = re.compile(r"[0-9a-fA-F]{4,23}")
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id.", autocompletion=job_ids)]
PartOfJobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB_ID", help="The job's id, or 4 or more digits of its beginning or end.", autocompletion=job_ids
    ),
]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB_ID", help="Ids of jobs.", autocompletion=job_ids)]


async def find(stint: Client, text: str) -> JobHandle:
    """The job with this id, or whose id begins or ends like this. Raises ConfigError unless there is exactly one."""
    if is_job_id(text):
        return stint.job(text)
    if not _PART.fullmatch(text):
        raise ConfigError(f"{text} is neither a job's id, 24 hex digits, nor 4 or more of its first or last digits.")
    found = await first(2, stint.jobs, id=text)  # a second one makes it ambiguous
    if len(found) != 1:
        raise ConfigError(f"{'No' if not found else 'More than one'} job has an id that begins or ends with {text}.")
    return stint.job(found[0].id)


def exact(stint: Client, text: str) -> JobHandle:
    """The job with this id. Raises ConfigError if it is none."""
    if not is_job_id(text):
        raise ConfigError(f"{text} is not a job's id: 24 hex digits.")
    return stint.job(text)


def call(
    work: Callable[[Client], Awaitable[T]], *, url: str = "", profile: str = "", where: Endpoints | None = None
) -> T:
    """Do the work with a client, which tries nothing twice: a person waits. Errors are printed and end the command."""

    async def connected() -> T:
        async with Client.connect(where or settings.where(url, profile), patience=0, say=say) as stint:
            return await work(stint)

    with reported("stint", usage=(ConfigError, InvalidJobIdError, InvalidQueueNameError)):
        return asyncio.run(connected())


def asking(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a command of a coroutine function that takes a client first: its options, and which Stint to ask."""

    def command(*, url: str, profile: str, **values: Any) -> None:
        call(lambda stint: work(stint, **values), url=url, profile=profile)

    _client, *own = inspect.signature(work, eval_str=True).parameters.values()
    of_which = {"url": settings.Url, "profile": settings.Profile}
    where = [Parameter(name, Parameter.KEYWORD_ONLY, default="", annotation=kind) for name, kind in of_which.items()]
    return as_command(command, work, inspect.Signature([*own, *where]))
