"""`stint audit`."""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from stint.cli.errors import reported
from stint.cli.listing import PAGE, listed, printable
from stint.client.options import endpoints
from stint.core.errors import ConfigError, InvalidQueueNameError
from stint.core.subjects import normalise_queue_name

app = typer.Typer(add_completion=False)

_AGO: Final = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WORDS: Final = {"kill_requested": "killed"}


@app.command()
def audit(
    queue: Annotated[str | None, typer.Option(help="Only what was done in this queue.")] = None,
    since: Annotated[
        str, typer.Option(help="Only since then: a time (RFC 3339), or a duration such as 12h or 7d.")
    ] = "",
    who: Annotated[
        str, typer.Option(help="Only what was done by this display name, identity, token accessor or NATS user.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many lines to show at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print each entry as a line of JSON.")] = False,
    url: Annotated[str, typer.Option(envvar="STINT_URL", help="Stint's API.")] = "",
) -> None:
    """Show who submitted, killed, deleted and released jobs, the newest first.

    A `?` behind a name says that it is a claim: a direct publisher on NATS may have written it. Needs STINT_TOKEN (or
    VAULT_TOKEN), and shows the queues that it may read.

    Exit codes: 2 wrong option or setting, 125 Stint cannot be reached or refuses.
    """
    with reported("stint", usage=(ConfigError, InvalidQueueNameError)):
        wanted = {
            "qname": None if queue is None else normalise_queue_name(queue),
            "since": _time(since, datetime.now(UTC)) if since else None,
            "who": who or None,
            "limit": str(min(limit, PAGE)),
        }
        params = {name: value for name, value in wanted.items() if value is not None}
        where = endpoints(os.environ, url=url)
        asyncio.run(listed(where, "/v1/api/audit", params, limit, json.dumps if as_json else line))


def line(entry: Mapping[str, Any]) -> str:
    """An entry for people."""
    who = entry["who"] or entry["nats_user"] or "somebody"
    came_from = f" from {entry['from']}" if entry["from"] else ""
    answer = "" if entry["answer"] == "accepted" else f" ({entry['answer']})"
    action = _WORDS.get(entry["action"], entry["action"])
    return printable(
        f"{entry['at']}  {who}{'' if entry['proven'] else '?'} {action} {entry['job']} in {entry['qname']!r}"
        f"{came_from}{answer}"
    )


def _time(text: str, now: datetime) -> str:
    """The time that the text says.

    Raises:
        ConfigError: neither a time nor a duration.
    """
    if found := _AGO.fullmatch(text):
        return (now - timedelta(**{_UNITS[found[2]]: int(found[1])})).isoformat()
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError("--since: not a time (RFC 3339), nor a duration such as 12h or 7d.") from None
