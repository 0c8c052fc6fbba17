"""`stint demo`: runs one job from its submission to its end, on servers of its own."""

import asyncio
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from stint.cli.dev.command import run_stack
from stint.cli.dev.stack import Stack
from stint.cli.errors import INTERRUPTED
from stint.cli.jobs.run import Narrator, show
from stint.cli.jobs.writing import to_terminal
from stint.client import Client, Fact
from stint.client.submitting.pack import pack
from stint.core.errors import StintError
from stint.core.submission.payload import JobPayload

JOB_WITHIN: Final = 120.0
"""Seconds that the job may take."""
SECRET: Final = "PASSWORD@kv/data/demo.password"
COMMAND: Final = """\
echo "I am $(id -un), and this is my content:"; cat /demo/hello.txt
for n in 1 2 3; do echo "working $n"; sleep 0.4; done
grep -q ^PASSWORD: /secrets.yml && echo "my secret is in /secrets.yml, $(stat -c %A /secrets.yml)"
"""

app = typer.Typer(add_completion=False)


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
        # Packed before `run_stack` makes new files private: the job's user must be able to read them.
        work = partial(_run_job, _content(Path(folder, "content")))
        run_stack("demo: failed", Path(folder, "data"), work, stopped=INTERRUPTED)
    _say("success")


def _content(folder: Path) -> str:
    (folder / "demo").mkdir(parents=True)
    (folder / "demo" / "hello.txt").write_text("hello from a folder\n", encoding="utf-8")
    return pack(folder)


async def _run_job(content: str, stack: Stack) -> None:
    payload = JobPayload(
        qname="demo", container_image="busybox", content=content, secret_refs=(SECRET,), run=("sh", "-ec", COMMAND)
    )
    _say(f"stint run --queue demo --image busybox --secret {SECRET} --content ./content -- sh -ec '…'")
    try:
        async with asyncio.timeout(JOB_WITHIN), Client.from_env(stack.settings) as stint:
            job = await stint.send(await stint.seal(payload))
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
