"""`stint doctor`."""

import asyncio
from typing import Annotated

import typer

from stint.cli.calling import queues
from stint.cli.doctor import servers
from stint.cli.doctor.finding import Finding, bad, ok
from stint.cli.errors import NOT_SO
from stint.cli.settings import Found, Profile, Url, settings
from stint.cli.show.form import Form, show_all
from stint.cli.show.terminal import coloured, painted, printable
from stint.client import endpoints
from stint.core.errors import ConfigError

app = typer.Typer(add_completion=False)

_COLOURS = {"ok": "success", "warn": "stopping", "bad": "failed", "skipped": "queued"}
"""Verdicts, and the statuses that have their colours."""


@app.command()
def doctor(
    queue: Annotated[
        str | None, typer.Option(help="Also look whether the token may use this queue.", autocompletion=queues)
    ] = None,
    form: Form = "table",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Look at the settings, the API, Vault, NATS, Docker, clocks and permissions, and say how to mend what is wrong.

    NATS and Docker are looked at if they are set up on this machine. Nothing is changed.

    Exit codes: 1 something does not work.

    Example: `stint doctor -o json | jq -r 'select(.verdict == "bad") | .mend'`
    """
    found = asyncio.run(look(url, profile, queue))
    if form in {"json", "name"}:
        show_all(found, (), form, name=lambda finding: finding.about)
    else:
        for finding in found:
            word = painted(_COLOURS[finding.verdict], f"{finding.verdict:<8}")
            typer.echo(f"{word}{printable(f'{finding.about}: {finding.what}')}", color=coloured())
            if finding.mend:
                typer.echo(f"{'':<8}-> {printable(finding.mend)}")
    if any(finding.verdict == "bad" for finding in found):
        raise typer.Exit(NOT_SO)


async def look(url: str, profile: str, queue: str | None) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    try:
        found = settings(url, profile)
        where = endpoints(found)
    except ConfigError as error:
        mend = "`stint login` or `vault login`, or set STINT_TOKEN; `stint config` shows the rest."
        return [bad("settings", error.sentence, mend)]
    groups = await asyncio.gather(
        servers.look_at_api(where),
        servers.look_at_vault(where, queue),
        servers.look_at_nats(found.get("STINT_NATS_URL", "")),
        servers.look_at_docker(),
    )
    return [_settings(found), *(finding for group in groups for finding in group)]


def _settings(found: Found) -> Finding:
    token = next(found.origin[name] for name in ("STINT_TOKEN", "VAULT_TOKEN") if name in found)
    url = found.origin.get("STINT_URL", "default")
    return ok("settings", f"the token is from {token}, the API's address from {url}")
