"""Values that a shell completes: ids of jobs, names of queues and of runners, as the API knows them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from stint.cli.listing import first
from stint.cli.settings import where
from stint.client import Client
from stint.core.errors import StintError

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


def _completing(ask: Callable[[Client, str], Awaitable[Values]]) -> Callable[[str], Values]:
    """What typer calls. It gives nothing if Stint cannot be asked: a shell has no place for errors."""

    async def asked(incomplete: str) -> Values:
        async with asyncio.timeout(WITHIN), Client.connect(where(), patience=0) as stint:
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
