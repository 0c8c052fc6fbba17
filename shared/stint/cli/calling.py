"""Calls of the API, by a command or by a shell that completes a value."""

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from inspect import Parameter
from typing import Annotated, Any, Final, TypeVar

import typer

from stint.cli import settings
from stint.cli.errors import reported, say
from stint.cli.options import as_command
from stint.client import ApiRefusedError, Client, Endpoints, JobHandle
from stint.client.client import PAGE
from stint.core.errors import ConfigError, InvalidJobIdError, InvalidQueueNameError, StintError
from stint.core.names.ids import is_job_id

T = TypeVar("T")

MOST: Final = 100
"""How many jobs are offered."""
WITHIN: Final = 2.0
"""Seconds: whoever pressed a key waits no longer."""

_PLAIN: Final = re.compile(r"[\w@%+,./][\w@%+,./:=-]*")
"""What a shell takes as it is. It gets nothing else, not even quoted: bash puts a value into the command line as it
came, zsh evaluates the list, and whoever may submit a job chooses a queue's name."""
_NOT_PLAIN: Final = re.compile(r"[^\w@%+,./:= -]")

Values = list[tuple[str, str]]
"""Each with a few words that describe it."""

_PART: Final = re.compile(r"[0-9a-fA-F]{4,23}")


@contextmanager
def filtered() -> Iterator[None]:
    """Around a request for a list or a stream: what the API finds wrong in it is a wrong option, a ConfigError."""
    try:
        yield
    except ApiRefusedError as error:
        if error.code != HTTPStatus.BAD_REQUEST:
            raise
        raise ConfigError(error.sentence) from None


async def first(count: int | None, listing: Callable[..., AsyncGenerator[T, None]], **wanted: Any) -> list[T]:
    """The first entries of a client's list: at most so many, or all. Asks for no more than that. As with `filtered`."""
    found: list[T] = []
    with filtered():
        async with aclosing(listing(page=min(count or PAGE, PAGE), **wanted)) as entries:
            async for entry in entries:
                found.append(entry)
                if len(found) == count:
                    break
    return found


def _completing(ask: Callable[[Client, str], Awaitable[Values]]) -> Callable[[str], Values]:
    """What typer calls. It gives nothing if Stint cannot be asked: a shell has no place for errors."""

    async def asked(incomplete: str) -> Values:
        async with asyncio.timeout(WITHIN), Client.connect(settings.where(), patience=0) as stint:
            return await ask(stint, incomplete)

    def complete(incomplete: str) -> Values:
        try:
            found = asyncio.run(asked(incomplete))
        except (StintError, TimeoutError):
            return []
        plain = ((value, _NOT_PLAIN.sub("?", words)) for value, words in found if _PLAIN.fullmatch(value))
        return [(value, words) for value, words in plain if value.startswith(incomplete)]

    return complete


@_completing
async def job_ids(stint: Client, incomplete: str) -> Values:
    """The last jobs whose ids begin like this, each with what tells it from others."""
    found = await first(MOST, stint.jobs, **({"id": incomplete} if incomplete else {}))
    return [(job.id, f"{job.status} {job.queue}") for job in found]


@_completing
async def queues(stint: Client, _incomplete: str) -> Values:
    """The queues with jobs, and those that are paused."""
    return [(queue.name, "paused" if queue.paused else "") for queue in await stint.queues()]


@_completing
async def runners(stint: Client, _incomplete: str) -> Values:
    """The runners that are alive."""
    return [(runner.name, "draining" if runner.draining else "") for runner in await stint.runners() if runner.alive]


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
    work: Callable[[Client], Awaitable[T]],
    *,
    url: str = "",
    profile: str = "",
    where: Endpoints | None = None,
    tell: Callable[[str], None] = say,
) -> T:
    """Do the work with a client, which tries nothing twice: a person waits. Errors are printed and end the command."""

    async def connected() -> T:
        async with Client.connect(where or settings.where(url, profile), patience=0, say=tell) as stint:
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
