"""How commands print lists of the API."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import typer

from stint.client.api import Api
from stint.client.options import Endpoints

PAGE: Final = 100
"""Entries per page, as many as the API gives."""


async def listed(
    where: Endpoints, path: str, params: Mapping[str, str], limit: int, show: Callable[[Mapping[str, Any]], str]
) -> None:
    """Print the first `limit` entries of a list, one a line."""
    left = limit
    async with Api.connect(where) as api:
        async for page in api.pages(path, **params):
            for entry in page["data"][:left]:
                typer.echo(show(entry))
            left -= len(page["data"])
            if left <= 0:
                return


def printable(text: str) -> str:
    """The text on one line: names that clients chose cannot move the cursor, or look like another line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
