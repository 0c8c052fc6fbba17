"""Lists of the API, whose entries a command shows."""

import asyncio
from typing import Any, Final, TypeVar

import msgspec

from stint.cli import settings
from stint.cli.calling import USAGE_ERRORS
from stint.cli.errors import reported
from stint.client.api import Api

T = TypeVar("T", bound=msgspec.Struct)

PAGE: Final = 100
"""Entries per page, as many as the API gives."""


def listed(path: str, shape: type[T], limit: int, *, url: str, profile: str, **params: Any) -> list[T]:
    """The first `limit` entries of a list. Errors are printed, and end the command."""

    async def read() -> list[T]:
        found: list[T] = []
        async with Api.connect(settings.where(url, profile)) as api:
            async for page in api.pages(path, limit=min(limit, PAGE), **params):
                found += msgspec.convert(page["data"], list[shape])  # type: ignore[valid-type] # a value, for mypy
                if len(found) >= limit:
                    break
        return found[:limit]

    with reported("stint", usage=USAGE_ERRORS):
        return asyncio.run(read())
