"""`stint audit` and `stint lineage`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import typer

from stint.cli.calling import asking, first, queues
from stint.cli.show.form import Column, Form, show_all
from stint.cli.show.terminal import moment
from stint.client import AuditEntry, Client, SecretUse

app = typer.Typer(add_completion=False)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many entries to show at most.")]


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _version(use: SecretUse) -> str:
    if use.version is None:
        return "-"
    return f"{use.version}, outdated" if use.outdated else str(use.version)


ENTRIES: Final[Sequence[Column[AuditEntry]]] = (
    Column("AT (UTC)", lambda entry: _second(entry.at), firm=True),
    Column("WHO", lambda entry: f"{entry.who or entry.nats_user or '-'}{'' if entry.proven else '?'}"),
    Column("ACTION", lambda entry: entry.action, firm=True),
    Column("JOB OR RUNNER", lambda entry: entry.job or entry.runner or "-", firm=True),
    Column("QUEUE", lambda entry: "-" if entry.runner else entry.queue),
    Column("FROM", lambda entry: entry.address or "-"),
    Column("ANSWER", lambda entry: entry.answer, firm=True),
    Column("STATUS", lambda entry: entry.status, wide=True),
    Column("REASON", lambda entry: entry.reason, wide=True),
    Column("ENTITY", lambda entry: entry.entity, wide=True),
    Column("ACCESSOR", lambda entry: entry.accessor, wide=True),
    Column("NATS USER", lambda entry: entry.nats_user, wide=True),
    Column("CLAIMED NAME", lambda entry: entry.claimed, wide=True),
)
USES: Final[Sequence[Column[SecretUse]]] = (
    Column("AT (UTC)", lambda use: _second(use.at), firm=True),
    Column("JOB", lambda use: use.job, firm=True),
    Column("QUEUE", lambda use: use.queue),
    Column("BY", lambda use: use.who),
    Column("STATUS", lambda use: use.status, firm=True),
    Column("SECRET", lambda use: use.secret),
    Column("VERSION", _version, firm=True),
)


@app.command()
@asking
async def audit(
    stint: Client,
    queue: Annotated[str | None, typer.Option(help="Only what was done in this queue.", autocompletion=queues)] = None,
    since: Annotated[str, typer.Option(help="Only since then: a time (RFC 3339), or 12h, 7d.")] = "",
    who: Annotated[str, typer.Option(help="Only by this display name, identity, token accessor or NATS user.")] = "",
    limit: Limit = 100,
    form: Form = "table",
) -> None:
    """Show who did what, the newest first: submitted, killed, deleted and released jobs, paused and resumed queues.

    Only in the queues that you may read; and who drained the runners that you may drain.

    A `?` behind a name says that it is a claim: a direct publisher on NATS may have written it, and has not signed it.

    For example:

        stint audit --queue deploys --since 7d

        stint audit -o json | jq -r 'select(.action == "paused") | .reason'
    """
    begin = moment("--since", since) if since else None
    found = await first(limit, stint.audit, queue=queue, since=begin, who=who or None)
    show_all(found, ENTRIES, form, name=lambda entry: entry.job or entry.runner or entry.queue)


@app.command(no_args_is_help=True)
@asking
async def lineage(
    stint: Client,
    secret: Annotated[
        str, typer.Argument(metavar="SECRET", help="The secret as jobs name it, path.key; a path stands for its keys.")
    ],
    version: Annotated[int | None, typer.Option(min=0, help="Only jobs that got this version.")] = None,
    outdated: Annotated[
        bool | None,
        typer.Option("--outdated/--newest", help="Only jobs that got an older version than the newest, or the newest."),
    ] = None,
    limit: Limit = 100,
    form: Form = "table",
) -> None:
    """Show which jobs got a secret, and which version of it, in the queues that you may read, the newest first.

    The newest version is the newest that one of these jobs got.

    Example: `stint lineage kv/data/demo.password --outdated -o name`
    """
    found = await first(limit, stint.lineage, secret=secret, version=version, outdated=outdated)
    show_all(found, USES, form, name=lambda use: use.job)
