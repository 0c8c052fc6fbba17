"""`stint run`."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from stint.cli.interrupts import Interrupts
from stint.cli.run_job import USAGE
from stint.cli.run_job import run as run_job
from stint.client.options import DEFAULT_ROLE, DEFAULT_WRAP_TTL, RunOptions, endpoints
from stint.client.pack import pack
from stint.core.errors import ConfigError, StintError
from stint.core.payload import JobPayload
from stint.core.subjects import normalise_queue_name

_POLICIES = {"always": "Always", "ifnotpresent": "IfNotPresent"}


def run(
    command: Annotated[list[str] | None, typer.Argument(help="The command, after --.", show_default=False)] = None,
    image: Annotated[str, typer.Option(help="The container image. content's gostint.yml may name one.")] = "",
    queue: Annotated[str, typer.Option(help="Jobs of a queue run one at a time.")] = "",
    secret: Annotated[list[str] | None, typer.Option(help="NAME@path.key: a secret for the container.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=value, not secret.")] = None,
    content: Annotated[Path | None, typer.Option(help="A folder or .tar.gz laid over the container.")] = None,
    entrypoint: Annotated[list[str] | None, typer.Option(help="Replaces the image's; once a word.")] = None,
    workdir: Annotated[str, typer.Option(help="Replaces the image's.")] = "",
    pull: Annotated[str, typer.Option(help="Always or IfNotPresent.")] = "IfNotPresent",
    secret_file_type: Annotated[str, typer.Option(help="yaml or json.")] = "yaml",
    tty: Annotated[bool, typer.Option("--tty", help="Give the command a terminal.")] = False,
    cont_on_warnings: Annotated[bool, typer.Option("--cont-on-warnings", help="Go on if Vault warns.")] = False,
    expose_vault_token: Annotated[
        bool, typer.Option("--expose-vault-token", help="Put the job's Vault token into its container.")
    ] = False,
    url: Annotated[str, typer.Option(envvar="STINT_URL", help="Stint's API.")] = "",
    role: Annotated[str, typer.Option(envvar="STINT_ROLE", help="The jobs' AppRole.")] = DEFAULT_ROLE,
    wrap_ttl: Annotated[str, typer.Option(help="How long the job may wait for its turn.")] = DEFAULT_WRAP_TTL,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and leave.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the job's output, and errors.")] = False,
) -> None:
    """Run a job, show its output as it comes, and exit with its return code.

    Needs STINT_TOKEN (or VAULT_TOKEN) and VAULT_ADDR. Exit codes besides the job's: 1 it failed without one, 2 usage,
    125 Stint or Vault unreachable or refusing, 130 Ctrl-C, 143 SIGTERM: both stop the job.
    """
    console = Console(stderr=True)
    try:
        job = JobPayload(
            qname=normalise_queue_name(queue),
            container_image=image,
            image_pull_policy=_choice("--pull", pull, _POLICIES),
            content=pack(content) if content else "",
            entrypoint=tuple(entrypoint or ()),
            run=tuple(command or ()),
            working_directory=workdir,
            env_vars=_pairs("--env", env, "="),
            secret_refs=_pairs("--secret", secret, "@"),
            secret_file_type=_choice("--secret-file-type", secret_file_type, {"yaml": "yaml", "json": "json"}),
            cont_on_warnings=cont_on_warnings,
            tty=tty,
            expose_vault_token=expose_vault_token,
        )
        if not image and not content:
            raise ConfigError("Give --image.")
        where = endpoints(os.environ, url=url)
    except StintError as error:
        console.print(f"stint: {error.sentence}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from None
    options = RunOptions(endpoints=where, job=job, role=role, wrap_ttl=wrap_ttl, detach=detach, quiet=quiet)
    asyncio.run(_run_and_leave(options, console))


async def _run_and_leave(options: RunOptions, console: Console) -> NoReturn:
    """End the process without waiting for its threads: one may hang in a call to Vault, or in the look-up of a name.

    The signals are watched to the end, so that none of them finds Python's own handler. All output has been flushed.
    """
    interrupts = Interrupts(console)
    with interrupts.watched():
        os._exit(await run_job(options, console, interrupts=interrupts))


def _pairs(option: str, values: list[str] | None, mark: str) -> tuple[str, ...]:
    """The values are not repeated in the error: what was mistyped may be a secret."""
    if any(not value.partition(mark)[0] or mark not in value for value in values or ()):
        raise ConfigError(f"{option}: a value must have the form NAME{mark}…")
    return tuple(values or ())


def _choice(option: str, value: str, choices: dict[str, str]) -> str:
    if value.lower() not in choices:
        raise ConfigError(f"{option}: must be one of {', '.join(choices.values())}.")
    return choices[value.lower()]
