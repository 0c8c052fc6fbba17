"""`stint audit` and `stint lineage`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
import typer

from stint.cli.calling import USAGE_ERRORS
from stint.cli.completing import queues
from stint.cli.errors import reported
from stint.cli.listing import listed
from stint.cli.settings import Profile, Url
from stint.cli.show.form import Form, show_all
from stint.cli.show.table import Column
from stint.cli.show.times import moment

app = typer.Typer(add_completion=False)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many entries to show at most.")]


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Something that somebody did, as the API tells it."""

    at: datetime
    who: str
    entity: str
    accessor: str
    nats_user: str
    action: str
    qname: str
    job: str
    from_: str
    answer: str
    status: str
    proven: bool


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that a job got, as the API tells it."""

    at: datetime
    job: str
    qname: str
    who: str
    status: str
    secret: str
    version: int | None
    outdated: bool


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _version(holder: Holder) -> str:
    if holder.version is None:
        return "-"
    return f"{holder.version}, outdated" if holder.outdated else str(holder.version)


ENTRIES: Final[Sequence[Column[Entry]]] = (
    Column("AT (UTC)", lambda entry: _second(entry.at), firm=True),
    Column("WHO", lambda entry: f"{entry.who or entry.nats_user or '-'}{'' if entry.proven else '?'}"),
    Column("ACTION", lambda entry: entry.action, firm=True),
    Column("JOB", lambda entry: entry.job, firm=True),
    Column("QUEUE", lambda entry: entry.qname),
    Column("FROM", lambda entry: entry.from_ or "-"),
    Column("ANSWER", lambda entry: entry.answer, firm=True),
    Column("STATUS", lambda entry: entry.status, wide=True),
    Column("ENTITY", lambda entry: entry.entity, wide=True),
    Column("ACCESSOR", lambda entry: entry.accessor, wide=True),
    Column("NATS USER", lambda entry: entry.nats_user, wide=True),
)
HOLDERS: Final[Sequence[Column[Holder]]] = (
    Column("AT (UTC)", lambda holder: _second(holder.at), firm=True),
    Column("JOB", lambda holder: holder.job, firm=True),
    Column("QUEUE", lambda holder: holder.qname),
    Column("BY", lambda holder: holder.who),
    Column("STATUS", lambda holder: holder.status, firm=True),
    Column("SECRET", lambda holder: holder.secret),
    Column("VERSION", _version, firm=True),
)


@app.command()
def audit(
    queue: Annotated[str | None, typer.Option(help="Only what was done in this queue.", autocompletion=queues)] = None,
    since: Annotated[str, typer.Option(help="Only since then: a time (RFC 3339), or 12h, 7d.")] = "",
    who: Annotated[str, typer.Option(help="Only by this display name, identity, token accessor or NATS user.")] = "",
    limit: Limit = 100,
    form: Form = "table",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Show who submitted, killed, deleted and released jobs in the queues that you may read, the newest first.

    A `?` behind a name says that it is a claim: a direct publisher on NATS may have written it.
    """
    with reported("stint", usage=USAGE_ERRORS):
        begin = moment("--since", since).isoformat() if since else None
    params = {"qname": queue, "since": begin, "who": who or None}
    found = listed("/v1/api/audit", Entry, limit, url=url, profile=profile, **params)
    show_all(found, ENTRIES, form, name=lambda entry: entry.job)


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
    limit: Limit = 100,
    form: Form = "table",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Show which jobs got a secret, and which version of it, in the queues that you may read, the newest first.

    The newest version is the newest that one of these jobs got.
    """
    wanted = None if outdated is None else str(outdated).lower()
    params = {"secret": secret, "version": version, "outdated": wanted}
    found = listed("/v1/api/lineage", Holder, limit, url=url, profile=profile, **params)
    show_all(found, HOLDERS, form, name=lambda holder: holder.job)
