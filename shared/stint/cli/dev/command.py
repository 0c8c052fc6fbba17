"""`stint dev`, which runs all of Stint on this machine, and `stint demo`, which runs one job on servers of its own."""

import asyncio
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from stint.cli.dev.children import ChildError, claim
from stint.cli.dev.stack import Stack
from stint.cli.errors import INTERRUPTED, MissingExtraError, reported, require
from stint.cli.jobs.run import Narrator, show
from stint.cli.jobs.writing import to_terminal
from stint.client import Client, Fact
from stint.core.errors import StintError
from stint.process import logs
from stint.process.env_file import write_env_file
from stint.process.signals import on_signals
from stint.process.waiting import InterruptedByEventError, interrupted_by

app = typer.Typer(add_completion=False)
console = Console(highlight=False, soft_wrap=True)

Work = Callable[[Stack], Awaitable[object]]

JOB_WITHIN: Final = 120.0
"""Seconds that the job may take."""
SECRET: Final = "kv/data/demo.password"
COMMAND: Final = """\
echo "I am $(id -un), and this is my content:"; cat /demo/hello.txt
for n in 1 2 3; do echo "working $n"; sleep 0.4; done
grep -q ^PASSWORD: /secrets.yml && echo "my secret is in /secrets.yml, $(stat -c %A /secrets.yml)"
"""


@app.command()
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

    To use servers that already run, set VAULT_ADDR with VAULT_TOKEN, NATS_URL, or DOCKER_HOST. A shell that has read
    the file for clients has these set, to servers that end with this command: start it again in another one.

    The embedded OpenBao keeps its data in memory: jobs that are queued when it stops can never run. If it dies,
    everything stops.

    Example: `stint dev --runners 2`
    """
    folder = data_dir.absolute()
    # Beside the data directory, not in it: that directory contains no token.
    path = env_file.absolute() if env_file else folder.with_name(f"{folder.name}.env")

    async def until_stopped(stack: Stack) -> None:
        write_env_file(path, stack.settings)
        _say_ready(stack.settings["STINT_URL"], path, folder / "log")
        await asyncio.Event().wait()

    run_stack("stint dev", folder, until_stopped, port=port, runners=runners, stopped=0)


def _say_ready(url: str, env_file: Path, logs_folder: Path) -> None:
    path = "" if shutil.which("stint") else f"; PATH={sysconfig.get_path('scripts')}:$PATH"
    console.print(f"ready: {url}")
    console.print(f"""
In another shell:

  set -a; . {env_file}; set +a{path}
  stint run --queue deploys --image busybox --secret PASSWORD@kv/data/demo.password -- cat /secrets.yml
  stint ls

Logs are in {logs_folder}. Ctrl-C stops everything.""")


def run_stack(command: str, data_dir: Path, work: Work, *, port: int = 0, runners: int = 1, stopped: int) -> None:
    """Start a stack, do `work` with it, and stop it.

    Exits with 2 if the extra `dev` is not installed, with 1 if a part does not start or the work fails, and with
    `stopped` if a signal stopped it.
    """
    logs.configure()
    # Other users must not read logs and data.
    os.umask(0o077)
    with reported(command, usage=MissingExtraError, code=1):
        require("dev", "nats", "uvicorn", "fastapi", "aiodocker", "yaml")
        if not asyncio.run(_run(data_dir, port, runners, work)):
            raise typer.Exit(stopped)


async def _run(data_dir: Path, port: int, runners: int, work: Work) -> bool:
    async with AsyncExitStack() as resources:
        stack = Stack(claim(data_dir, resources), port, runners)
        working = asyncio.create_task(_start_and_work(stack, work))
        await resources.enter_async_context(on_signals(working.cancel))
        resources.push_async_callback(stack.stop)
        with suppress(asyncio.CancelledError):
            await working
        console.print("stopping")
    console.print("stopped")
    return not working.cancelled()


async def _start_and_work(stack: Stack, work: Work) -> None:
    try:
        async with interrupted_by(stack.lost):
            await stack.start()
            await work(stack)
    except InterruptedByEventError:
        raise ChildError("OpenBao died, and its data, which was in memory, is lost: start again.") from None


class DemoError(StintError):
    """The demo's job took too long."""


@app.command()
def demo() -> None:
    """Start everything, run one sealed job, show its output and events, and stop everything.

    The job has content and a secret, and is encrypted before it is submitted. Uses the same servers as `stint dev`,
    with data in a temporary folder. The last line is `demo: success`.

    Exit codes: 1 something failed, 2 the extra `dev` is not installed, 130 stopped by a signal.
    """
    _say("starting NATS, OpenBao, the API, the projector and a runner")
    with tempfile.TemporaryDirectory(prefix="stint-demo-") as folder:
        run_stack("demo: failed", Path(folder, "data"), partial(_run_job, Path(folder, "content")), stopped=INTERRUPTED)
    _say("success")


async def _run_job(content: Path, stack: Stack) -> None:
    (content / "demo").mkdir(parents=True)
    (content / "demo" / "hello.txt").write_text("hello from a folder\n", encoding="utf-8")
    secrets, run = {"PASSWORD": SECRET}, ("sh", "-ec", COMMAND)
    _say(f"stint run --queue demo --image busybox --secret PASSWORD@{SECRET} --content ./content -- sh -ec '…'")
    try:
        async with asyncio.timeout(JOB_WITHIN), Client.from_env(stack.settings) as stint:
            job = await stint.submit(queue="demo", image="busybox", content=content, secrets=secrets, run=run)
            result = await show(job, to_terminal, Narrator(Console(stderr=True), quiet=False))
            _say("its events")
            async for item in job.stream():
                if isinstance(item, Fact):
                    typer.echo(f"  {item.at:%H:%M:%S.%f}  {item.kind}")
    except TimeoutError:
        raise DemoError(f"The job took longer than {JOB_WITHIN:g} s.") from None
    result.check()


def _say(text: str) -> None:
    typer.echo(f"demo: {text}")
