"""Values that a shell completes: ids of jobs and names of queues, as the API knows them."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from stint.cli.listing import first
from stint.core.errors import StintError

MOST: Final = 100
"""How many of the last jobs are looked at."""
WITHIN: Final = 2.0
"""Seconds: whoever pressed a key waits no longer."""

Values = list[tuple[str, str]]
"""Each with a few words that describe it."""


def job_ids(incomplete: str) -> Values:
    """The last jobs, each with what tells it from others."""
    return _completed(incomplete, lambda job: (job.id, f"{job.status} {job.queue}"))


def queues(incomplete: str) -> Values:
    """The queues of the last jobs."""
    return _completed(incomplete, lambda job: (job.queue, ""))


def _completed(incomplete: str, value: Callable[[Any], tuple[str, str]]) -> Values:
    """Nothing if Stint cannot be asked: a shell has no place for errors."""
    try:
        found = asyncio.run(_last(value))
    except (StintError, TimeoutError):
        return []
    return [pair for pair in dict.fromkeys(found) if pair[0].startswith(incomplete)]


async def _last(value: Callable[[Any], tuple[str, str]]) -> Values:
    from stint.cli.settings import where  # noqa: PLC0415 - only while a shell completes
    from stint.client.client import Client  # noqa: PLC0415

    async with asyncio.timeout(WITHIN), Client.connect(where(), patience=0) as stint:
        return [value(job) for job in await first(MOST, stint.jobs)]
