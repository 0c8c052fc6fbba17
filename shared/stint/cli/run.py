"""`stint run`."""

import asyncio
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from stint.cli.errors import reported
from stint.cli.interrupts import Interrupts
from stint.cli.run_job import run as run_job
from stint.client.options import DEFAULT_ROLE, DEFAULT_WRAP_TTL, RunOptions, endpoints
from stint.client.pack import pack
from stint.core.errors import ConfigError, StintError
from stint.core.payload import JobPayload
from stint.core.subjects import normalise_queue_name

app = typer.Typer(add_completion=False)
Words = list[str] | None
Pull = StrEnum("Pull", {"ALWAYS": "Always", "IF_NOT_PRESENT": "IfNotPresent"})
SecretsFile = StrEnum("SecretsFile", ["YAML", "JSON"])


def _named_by(mark: str) -> Callable[[Words], Words]:
    """Check values. The error does not repeat them, because a mistyped value may be a secret."""

    def check(values: Words) -> Words:
        if any(not value.partition(mark)[0] or mark not in value for value in values or ()):
            raise typer.BadParameter(f"A value must have the form NAME{mark}…")
        return values

    return check


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
    pull: Annotated[Pull, typer.Option(case_sensitive=False, help="When to pull the image.")] = Pull.IF_NOT_PRESENT,
    secret_file_type: Annotated[
        SecretsFile, typer.Option(case_sensitive=False, help="Format of the secrets file.")
    ] = SecretsFile.YAML,
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
        if not image and not content:
            raise ConfigError("Give --image.")
        job = JobPayload(
            qname=normalise_queue_name(queue),
            container_image=image,
            image_pull_policy=pull,
            content=pack(content) if content else "",
            entrypoint=tuple(entrypoint or ()),
            run=tuple(command or ()),
            working_directory=workdir,
            env_vars=tuple(env or ()),
            secret_refs=tuple(secret or ()),
            secret_file_type=secret_file_type,
            cont_on_warnings=cont_on_warnings,
            tty=tty,
            expose_vault_token=expose_vault_token,
        )
        where = endpoints(os.environ, url=url)
    options = RunOptions(endpoints=where, job=job, role=role, wrap_ttl=wrap_ttl, detach=detach, quiet=quiet)
    asyncio.run(_run_and_leave(options))


async def _run_and_leave(options: RunOptions) -> NoReturn:
    """Exit without waiting for threads, because one may hang in a call to Vault or in a name look-up.

    Signals are handled to the very end, so that none reaches Python's own handler. All output has been flushed.
    """
    console = Console(stderr=True)
    interrupts = Interrupts(console)
    with interrupts.watched():
        os._exit(await run_job(options, console, interrupts=interrupts))
