"""`stint nats-auth`."""

import asyncio
import os
from typing import Annotated

import typer

from stint.cli.errors import NOT_SO, importing, reported
from stint.client.options import endpoints
from stint.natsauth.callout.rule import LoginRefusedError, decide
from stint.vault import Vault

app = typer.Typer(add_completion=False)


@app.command()
def nats_auth(
    check: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUES",
            help="Do not serve. Say whether the token in VAULT_TOKEN may connect with these queues, and if not, why: "
            "NATS itself tells clients only that they are refused.",
        ),
    ] = None,
) -> None:
    """Let publishers into NATS with their Vault tokens, by the policies that the REST API also asks, or with keys.

    A publisher gives its queues as the user, comma-separated, and its Vault token as the password; or it signs with a
    key that `stint nats-config` has made. Whoever sends too much is disconnected, and kept out for a minute. Any number
    of these services can run at the same time.

    Exit codes of --check: 0 it may connect, 1 it may not, 125 Vault cannot be reached or refuses the token.

    Example: `stint nats-auth --check deploys,reports`
    """
    if check is not None:
        _check(check)
        return
    with reported("stint nats-auth"), importing("nats-auth"):
        from stint.natsauth.callout.__main__ import main  # noqa: PLC0415 - clients do not have the libraries
    raise typer.Exit(main())


def _check(listed: str) -> None:
    with reported("stint nats-auth"):
        where = endpoints(os.environ, publisher=True)
        try:
            grant = asyncio.run(decide(Vault(where.vault_addr, cacert=where.vault_cacert), listed, where.token))
        except LoginRefusedError as error:
            typer.echo(error.sentence)
            raise typer.Exit(NOT_SO) from None
    typer.echo(f"The token may connect, as {grant.name}, and may publish on:")
    typer.echo("\n".join(request.seen_as for request in grant.role.requests))
