"""Values that a shell completes: ids of jobs, names of queues and of runners, as the API knows them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from stint.cli.listing import first
from stint.core.errors import StintError

if TYPE_CHECKING:
    from stint.client.client import Client

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


def job_ids(incomplete: str) -> Values:
    """The last jobs whose ids begin like this, each with what tells it from others."""
    return _completed(incomplete, partial(_jobs, part=incomplete))


def queues(incomplete: str) -> Values:
    """The queues with jobs, and those that are paused."""
    return _completed(incomplete, _queues)


def runners(incomplete: str) -> Values:
    """The runners that are alive."""
    return _completed(incomplete, _runners)


async def _jobs(stint: "Client", part: str) -> Values:
    found = await first(MOST, stint.jobs, **({"id": part} if part else {}))
    return [(job.id, f"{job.status} {job.queue}") for job in found]


async def _queues(stint: "Client") -> Values:
    return [(queue.name, "paused" if queue.paused else "") for queue in await stint.queues()]


async def _runners(stint: "Client") -> Values:
    return [(runner.name, "draining" if runner.draining else "") for runner in await stint.runners() if runner.alive]


def _completed(incomplete: str, ask: Callable[["Client"], Awaitable[Values]]) -> Values:
    """Nothing if Stint cannot be asked: a shell has no place for errors."""
    try:
        found = asyncio.run(_asked(ask))
    except (StintError, TimeoutError):
        return []
    plain = ((value, _NOT_PLAIN.sub("?", words)) for value, words in found if _PLAIN.fullmatch(value))
    return [(value, words) for value, words in plain if value.startswith(incomplete)]


async def _asked(ask: Callable[["Client"], Awaitable[Values]]) -> Values:
    from stint.cli.settings import where  # noqa: PLC0415 - only while a shell completes
    from stint.client.client import Client  # noqa: PLC0415

    async with asyncio.timeout(WITHIN), Client.connect(where(), patience=0) as stint:
        return await ask(stint)
