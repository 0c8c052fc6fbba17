"""`stint lineage`."""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from stint.cli.errors import reported
from stint.cli.listing import PAGE, listed, printable
from stint.client.options import endpoints

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def lineage(
    secret: Annotated[
        str, typer.Argument(metavar="SECRET", help="The secret as jobs name it, path.key; a path stands for its keys.")
    ],
    version: Annotated[int | None, typer.Option(min=0, help="Only jobs that got this version.")] = None,
    outdated: Annotated[
        bool | None,
        typer.Option("--outdated/--newest", help="Only jobs that got an older version than the newest, or the newest."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines to show at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print each entry as a line of JSON.")] = False,
    url: Annotated[str, typer.Option(envvar="STINT_URL", help="Stint's API.")] = "",
) -> None:
    """Show which jobs got a secret, and which version of it, the newest first.

    The newest version is the newest that a job got, in the queues that you may read. Needs STINT_TOKEN (or
    VAULT_TOKEN).

    Exit codes: 2 wrong option or setting, 125 Stint cannot be reached or refuses.
    """
    with reported("stint"):
        params = {"secret": secret, "limit": str(min(limit, PAGE))}
        if version is not None:
            params["version"] = str(version)
        if outdated is not None:
            params["outdated"] = str(outdated).lower()
        where = endpoints(os.environ, url=url)
        asyncio.run(listed(where, "/v1/api/lineage", params, limit, json.dumps if as_json else line))


def line(entry: Mapping[str, Any]) -> str:
    """An entry for people."""
    version = "" if entry["version"] is None else f" version {entry['version']}"
    outdated = " (outdated)" if entry["outdated"] else ""
    return printable(
        f"{entry['at']}  {entry['job']} in {entry['qname']!r} of {entry['who'] or 'somebody'}, {entry['status']}: "
        f"{entry['secret']}{version}{outdated}"
    )
