"""Runs a job: submits it, follows it, and exits with its exit code."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from rich.console import Console

from stint.cli.errors import UNREACHABLE, USAGE
from stint.cli.interrupts import Interrupts
from stint.client import Client, Endpoints, Fact, JobHandle, JobResult, Output
from stint.client.options import DEFAULT_WRAP_TTL
from stint.core.errors import ConfigError, StintError
from stint.core.payload import JobPayload

Write = Callable[[str, bytes], Awaitable[None]]
"""Receives a job's output: the stream (`stdout`, `stderr` or `tty`) and its bytes."""
INCOMPLETE: Final = "Part of the job's output may be missing above."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """A job, and how to run it.

    Attributes:
        wrap_ttl: how long the job may wait in its queue, as a duration of Vault (`24h`).
        detach: print the job's id and do not wait.
        quiet: print only the job's output, and errors.
    """

    endpoints: Endpoints
    job: JobPayload = field(repr=False)
    wrap_ttl: str = DEFAULT_WRAP_TTL
    detach: bool = False
    quiet: bool = False


async def to_terminal(stream: str, data: bytes) -> None:
    """Write bytes unchanged to standard output or error. In a thread, so that Ctrl-C works if the reader is blocked.

    Raises:
        StintError: the reader has closed its end.
    """
    await asyncio.to_thread(_write, sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer, data)


def _write(target: BinaryIO, data: bytes) -> None:
    try:
        target.write(data)
        target.flush()
    except BrokenPipeError:
        # What is still buffered is flushed once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())
        raise StintError("Nobody reads the output any more. The job continues.") from None


class Narrator:
    """Reports a job's progress on standard error."""

    _WORDS: Final = {
        "started": "running on {runner}",
        "kill_requested": "a kill was requested",
        "held": "held: its runner was lost, and its queue waits for that runner or for `stint release`",
        "released": "released",
    }

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Print a line, unless `quiet`."""
        if not self._quiet:
            self._console.print(f"stint: {text}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def fact(self, fact: Fact) -> None:
        """Report an event of the job."""
        if words := self._WORDS.get(fact.kind):
            self.say(words.format(runner=fact.runner))

    def end(self, job: JobResult) -> None:
        """Report the job's end. Errors are printed even if `quiet`."""
        for sentence in (job.error, "" if job.output_complete else INCOMPLETE):
            if sentence:
                self._console.print(f"stint: {sentence}", markup=False, highlight=False, soft_wrap=True)
        code = f" with {job.return_code}" if job.return_code else ""
        reason = f" ({job.reason})" if job.reason else ""
        self.say(f"{job.status}{code}{reason}")


async def run(
    options: RunOptions, console: Console, write: Write = to_terminal, interrupts: Interrupts | None = None
) -> int:
    """Run a job to its end; returns the exit code: the job's own, 1 if it failed without one, or 2, 125, 130 or 143.

    `console` shows progress and errors to people. `interrupts` handles signals.
    """
    interrupts = interrupts or Interrupts(console)
    try:
        async with Client.connect(options.endpoints) as stint:
            return await interrupts.around(_run(options, stint, console, write, interrupts))
    except StintError as error:
        console.print(f"stint: {error.sentence}", markup=False, highlight=False, soft_wrap=True)
        return interrupts.code or (USAGE if isinstance(error, ConfigError) else UNREACHABLE)


async def _run(options: RunOptions, stint: Client, console: Console, write: Write, interrupts: Interrupts) -> int:
    sealed = await stint.seal(options.job, wrap_ttl=options.wrap_ttl)
    interrupts.may_have_a_job()
    job = await stint.send(sealed)
    interrupts.kills(job.id, job.kill)
    if options.detach and not interrupts.code:
        await write("stdout", f"{job.id}\n".encode())
        return 0
    narrator = Narrator(console, quiet=options.quiet)
    narrator.say(f"job {job.id} is queued in {options.job.qname!r}")
    result = await show(job, write, narrator)
    return interrupts.code or result.exit_code


async def show(job: JobHandle, write: Write, narrator: Narrator) -> JobResult:
    """Write a job's output as it comes, and report its progress and its end."""
    async with aclosing(job.stream()) as items:
        async for item in items:
            match item:
                case Output():
                    await write(item.stream, item.data)
                case Fact():
                    narrator.fact(item)
                case JobResult():
                    narrator.end(item)
                    return item
    raise AssertionError("A stream ends with a result, or raises.")
