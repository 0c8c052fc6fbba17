"""`stint dev`: runs all of Stint on this machine."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from stint.cli.dev.datadir import claim
from stint.cli.dev.stack import Options, Stack
from stint.cli.extras import MissingExtraError, require
from stint.cli.run_job import USAGE
from stint.core.errors import StintError
from stint.process import logs
from stint.process.env_file import write_env_file
from stint.process.signals import on_signals

log = structlog.get_logger()
console = Console(highlight=False, soft_wrap=True)


def dev(
    port: Annotated[int, typer.Option(help="The API's port; 0 for any free port.", min=0, max=65535)] = 0,
    runners: Annotated[int, typer.Option(help="The number of runners.", min=0)] = 1,
    data_dir: Annotated[Path, typer.Option(help="The folder for logs, process ids and NATS' data.")] = Path(".stint"),
    env_file: Annotated[
        Path | None,
        typer.Option(
            help="The file for the settings that clients need (mode 0600). Default: the data directory + .env."
        ),
    ] = None,
) -> None:
    """Run everything on this machine: NATS, OpenBao, the API, the projector and runners.

    To use servers that already run, set VAULT_ADDR with VAULT_TOKEN, NATS_URL, or DOCKER_HOST. The embedded OpenBao
    keeps its data in memory: jobs that are queued when it stops can never run.
    """
    logs.configure()
    # Other users must not read logs and data.
    os.umask(0o077)
    options = Options(port=port, runners=runners)
    try:
        require("dev", "nats", "uvicorn", "fastapi", "aiodocker", "yaml")
        asyncio.run(_run(data_dir.absolute(), options, env_file.absolute() if env_file else None))
    except StintError as error:
        typer.echo(f"stint dev: {error.sentence}", err=True)
        raise typer.Exit(USAGE if isinstance(error, MissingExtraError) else 1) from None


async def _run(data_dir: Path, options: Options, env_file: Path | None) -> None:
    stopping = asyncio.Event()
    async with AsyncExitStack() as resources:
        claimed = claim(data_dir, resources)
        await resources.enter_async_context(on_signals(stopping.set))
        stack = Stack(claimed, options)
        resources.push_async_callback(stack.stop)
        starting = asyncio.create_task(stack.start())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            await starting
            _say_ready(stack, env_file)
        await stopped
        console.print("stopping")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    console.print("stopped")


def _say_ready(stack: Stack, env_file: Path | None) -> None:
    settings = stack.settings
    data_dir = stack.data_dir.path
    # Beside the data directory, not in it: that directory contains no token.
    path = env_file or data_dir.with_name(f"{data_dir.name}.env")
    write_env_file(path, settings)
    console.print(f"ready: {settings['STINT_URL']}")
    console.print(f"""
In another shell:

  set -a; . {path}; set +a
  stint run --queue deploys --image busybox --secret PASSWORD@kv/data/demo.password -- cat /secrets.yml
  curl -s -H "X-Auth-Token: $STINT_TOKEN" $STINT_URL/v1/api/job

Logs are in {data_dir / "log"}. Ctrl-C stops everything.""")
