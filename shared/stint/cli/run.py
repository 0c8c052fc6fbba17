"""`stint run`."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from stint.cli.errors import reported
from stint.cli.interrupts import Interrupts
from stint.cli.run_job import RunOptions
from stint.cli.run_job import run as run_job
from stint.client import JobFields, endpoints
from stint.client.fields import payload_of
from stint.client.options import DEFAULT_ROLE, DEFAULT_WRAP_TTL
from stint.core.errors import StintError

app = typer.Typer(add_completion=False)
Words = list[str] | None


def _named_by(mark: str) -> Callable[[Words], Words]:
    """Check values. The error does not repeat them, because a mistyped value may be a secret."""

    def check(values: Words) -> Words:
        if any(not value.partition(mark)[0] or mark not in value for value in values or ()):
            raise typer.BadParameter(f"A value must have the form NAME{mark}…")
        return values

    return check


def _pairs(values: Words, mark: str) -> dict[str, str]:
    parts = (value.partition(mark) for value in values or ())
    return {name: rest for name, _, rest in parts}


@app.command(no_args_is_help=True)
def run(
    command: Annotated[Words, typer.Argument(help="The command, after --.", show_default=False)] = None,
    image: Annotated[
        str, typer.Option(help="The container image. A gostint.yml in the content may name it instead.")
    ] = "",
    queue: Annotated[str, typer.Option(help="The queue's name. Its jobs run one at a time.")] = "",
    secret: Annotated[
        Words, typer.Option(callback=_named_by("@"), help="A secret for the container, as NAME@path.key.")
    ] = None,
    env: Annotated[
        Words, typer.Option(callback=_named_by("="), help="An environment variable, as NAME=value. Not for secrets.")
    ] = None,
    content: Annotated[Path | None, typer.Option(help="A folder or .tar.gz, unpacked over the container's /.")] = None,
    entrypoint: Annotated[
        Words, typer.Option(help="Overrides the image's entrypoint; repeat the option for each word.")
    ] = None,
    workdir: Annotated[str, typer.Option(help="Overrides the image's working directory.")] = "",
    pull: Annotated[
        Literal["IfNotPresent", "Always"], typer.Option(case_sensitive=False, help="When to pull the image.")
    ] = "IfNotPresent",
    secret_file_type: Annotated[
        Literal["yaml", "json"], typer.Option(case_sensitive=False, help="Format of the secrets file.")
    ] = "yaml",
    tty: Annotated[bool, typer.Option("--tty", help="Give the command a terminal.")] = False,
    cont_on_warnings: Annotated[bool, typer.Option("--cont-on-warnings", help="Continue if Vault warns.")] = False,
    expose_vault_token: Annotated[
        bool, typer.Option("--expose-vault-token", help="Put the job's Vault token into its container.")
    ] = False,
    url: Annotated[str, typer.Option(envvar="STINT_URL", help="Stint's API.")] = "",
    role: Annotated[str, typer.Option(envvar="STINT_ROLE", help="The jobs' AppRole.")] = DEFAULT_ROLE,
    wrap_ttl: Annotated[str, typer.Option(help="How long the job may wait in its queue.")] = DEFAULT_WRAP_TTL,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the job's output, and errors.")] = False,
) -> None:
    """Run a job, show its output as it comes, and exit with its exit code.

    Needs STINT_TOKEN (or VAULT_TOKEN) and VAULT_ADDR.

    Exit codes besides the job's own: 1 the job failed without an exit code, 2 wrong option or setting, 125 Stint or
    Vault cannot be reached or refuses, 130 Ctrl-C and 143 SIGTERM, which both stop the job.
    """
    with reported("stint", usage=StintError):
        fields = JobFields(
            image=image,
            pull=pull,
            content=content or "",
            entrypoint=entrypoint or (),
            run=command or (),
            workdir=workdir,
            env=_pairs(env, "="),
            secrets=_pairs(secret, "@"),
            secret_file_type=secret_file_type,
            cont_on_warnings=cont_on_warnings,
            tty=tty,
            expose_vault_token=expose_vault_token,
        )
        job = payload_of(queue, fields)
        where = replace(endpoints(os.environ, url=url), role=role)
    options = RunOptions(endpoints=where, job=job, wrap_ttl=wrap_ttl, detach=detach, quiet=quiet)
    asyncio.run(_run_and_leave(options))


async def _run_and_leave(options: RunOptions) -> NoReturn:
    """Exit without waiting for threads, because one may hang in a call to Vault or in a name look-up.

    Signals are handled to the very end, so that none reaches Python's own handler. All output has been flushed.
    """
    console = Console(stderr=True)
    interrupts = Interrupts(console)
    with interrupts.watched():
        os._exit(await run_job(options, console, interrupts=interrupts))
