"""The main job, from end to end, on servers of its own: starts the embedded stack, runs one job, stops everything.

The job carries content, is sealed by the client, waits its turn in NATS, is opened with OpenBao, runs in a container,
and its output is shown as it comes. The last line is `demo: success`, or says what failed; the exit code says so too.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from stint.client.api import Api, connect
from stint.client.options import endpoints
from stint.core.errors import StintError

STINT = Path(sys.executable).with_name("stint")
READY_WITHIN = 60.0
"""Seconds that the stack may take to start."""
JOB_WITHIN = 120.0
"""Seconds that the job may take."""

COMMAND = """\
echo "I am $(id -un), and this is my content:"; cat /demo/hello.txt
for n in 1 2 3; do echo "working $n"; sleep 0.4; done
grep -q ^PASSWORD: /secrets.yml && echo "my secret is in /secrets.yml, $(stat -c %A /secrets.yml)"
"""


class DemoError(StintError):
    """The demo did not go as it should."""


async def demo(folder: Path) -> None:
    """Start, run, show, stop.

    Raises:
        StintError: something did not go as it should.
    """
    say("starting NATS, OpenBao, the API, the projector and a runner")
    stack = await asyncio.create_subprocess_exec(
        STINT, "dev", "--data-dir", folder / "data", "--env-file", folder / "env", stdout=asyncio.subprocess.PIPE
    )
    try:
        await until_ready(stack)
        job_id = await run_job(folder)
        await show_events(folder, job_id)
    finally:
        say("stopping everything")
        if stack.returncode is None:
            stack.terminate()
        code = await stack.wait()
    if code:
        raise DemoError(f"stint dev ended with code {code}.")


async def until_ready(stack: asyncio.subprocess.Process) -> None:
    """Wait for the line that says so."""
    if stack.stdout is None:
        raise DemoError
    async with asyncio.timeout(READY_WITHIN):
        async for line in stack.stdout:
            if line.startswith(b"ready: "):
                say(line.decode().strip())
                return
    raise DemoError("The stack did not start.")


async def run_job(folder: Path) -> str:
    """Run one job with a secret and content by `stint run`; returns its id."""
    content = folder / "content"
    (content / "demo").mkdir(parents=True)
    (content / "demo" / "hello.txt").write_text("hello from a folder\n", encoding="utf-8")
    options = ["--queue", "demo", "--image", "busybox", "--secret", "PASSWORD@kv/data/demo.password"]
    say(f"stint run {' '.join(options)} --content ./content -- sh -c '…'")
    process = await asyncio.create_subprocess_exec(
        STINT,
        "run",
        *options,
        "--content",
        content,
        "--",
        "sh",
        "-c",
        COMMAND,
        env=settings(folder),
        stderr=asyncio.subprocess.PIPE,
    )
    if process.stderr is None:
        raise DemoError
    async with asyncio.timeout(JOB_WITHIN):
        told = ""
        async for line in process.stderr:
            told += line.decode()
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
        code = await process.wait()
    found = re.search(r"job ([0-9a-f]{24})", told)
    if code or found is None:
        raise DemoError(f"stint run ended with code {code}.")
    return found[1]


async def show_events(folder: Path, job_id: str) -> None:
    """Show the job's facts, and check how it ended."""
    say("its events")
    async with connect(endpoints(settings(folder))) as api:
        await check_end(api, job_id)


async def check_end(api: Api, job_id: str) -> None:
    """The live stream of an ended job holds all of its facts.

    Raises:
        DemoError: it was no success.
    """
    async for event in api.events(job_id):
        if event.name == "fact":
            print(f"  {event.data['at']}  {event.data['kind']}", flush=True)
        elif event.name == "end" and event.data["status"] != "success":
            raise DemoError(f"The job ended as {event.data['status']}.")


def settings(folder: Path) -> Mapping[str, str]:
    """What `stint dev` wrote for its clients."""
    return {name: value or "" for name, value in dotenv_values(folder / "env").items()}


def say(text: str) -> None:
    """A line of the demo's own."""
    print(f"demo: {text}", flush=True)


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory(prefix="stint-demo-") as folder:
        try:
            asyncio.run(demo(Path(folder)))
        except (StintError, TimeoutError) as error:
            say(f"failed: {error.sentence if isinstance(error, StintError) else 'it took too long'}")
            return 1
    say("success")
    return 0


if __name__ == "__main__":
    sys.exit(main())
