"""`stint run` and `stint submit`."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.status import Status

from stint.cli.calling import call
from stint.cli.errors import UNREACHABLE, USAGE, reported
from stint.cli.jobs.interrupts import Interrupts
from stint.cli.jobs.options import JobOptions, RunOptions
from stint.cli.jobs.writing import Write, to_terminal
from stint.cli.options import taking
from stint.cli.show.form import ChangeForm, show_new_job
from stint.cli.show.terminal import printable, sentences
from stint.cli.streams import give_up
from stint.client import Client, Endpoints, Fact, JobHandle, JobResult, Output, Phase
from stint.core.errors import ConfigError, StintError
from stint.core.submission.payload import JobPayload

app = typer.Typer(add_completion=False)

OPTIONS_FIRST: Final = {"allow_interspersed_args": False}
"""What stands behind the first word of a command belongs to the command, as with `docker run`."""
INCOMPLETE: Final = "Part of the job's output may be missing above."


@app.command(no_args_is_help=True, context_settings=OPTIONS_FIRST)
@taking(RunOptions)
def run(options: RunOptions) -> None:
    """Run a job, show its output as it comes, and exit with its exit code.

    On a terminal Ctrl-C asks whether to leave the job or to kill it, and a second one kills it. Elsewhere Ctrl-C kills
    it at once, and so does SIGTERM.

    Exit codes besides the job's own: 1 the job failed without an exit code, 2 wrong option or setting, 125 Stint or
    Vault cannot be reached or refuses, 130 Ctrl-C and 143 SIGTERM.

    For example:

        stint run --queue deploys --image busybox --secret PASSWORD@kv/data/demo.password -- cat /secrets.yml

        tar cz site | stint run --queue deploys --image busybox --content - -- ls /site
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    asyncio.run(_run_and_leave(job, where, options))


@dataclass(kw_only=True)
class _Submit(JobOptions):
    form: ChangeForm = "text"


@app.command(no_args_is_help=True, context_settings=OPTIONS_FIRST)
@taking(_Submit)
def submit(options: _Submit) -> None:
    """Put a job into its queue, print its id, and do not wait for it.

    Example: `stint wait $(stint submit --queue deploys --image busybox -- true)`
    """
    with reported("stint", usage=StintError):
        job, where = options.payload(), options.where()
    show_new_job(options.form, call(lambda stint: _submit(stint, job, options), where=where))


async def _submit(stint: Client, job: JobPayload, options: JobOptions) -> str:
    sealed = await stint.seal(job, wrap_ttl=options.wrap_ttl)
    return (await stint.send(sealed, key=options.key)).id


class _StandardError(Console):
    """Drops what cannot be written, which must not cost the job's output and exit code."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Called instead of an error if nobody reads."""
        give_up(sys.stderr)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print a line, as any console does."""
        try:
            super().print(*objects, **options)
        except OSError:  # the disk is full
            give_up(sys.stderr)


async def _run_and_leave(job: JobPayload, where: Endpoints, options: RunOptions) -> NoReturn:
    """Exit without waiting for threads, because one may hang in a call to Vault or in a name look-up.

    Signals are handled to the very end, so that none reaches Python's own handler. All output has been flushed.
    """
    interrupts = Interrupts(_StandardError())
    with interrupts.watched():
        os._exit(await run_job(job, where, options, interrupts))


async def run_job(
    job: JobPayload, where: Endpoints, options: RunOptions, interrupts: Interrupts, write: Write = to_terminal
) -> int:
    """Run a job to its end; returns the exit code: the job's own, 1 if it failed without one, or 2, 125, 130 or 143."""
    try:
        async with Client.connect(where, say=interrupts.say) as stint:
            return await interrupts.around(_run(job, options, stint, interrupts, write))
    except StintError as error:
        interrupts.say(error.sentence)
        return interrupts.code or (USAGE if isinstance(error, ConfigError) else UNREACHABLE)


async def _run(payload: JobPayload, options: RunOptions, stint: Client, interrupts: Interrupts, write: Write) -> int:
    sealed = await stint.seal(payload, wrap_ttl=options.wrap_ttl)
    interrupts.may_have_a_job()
    job = await stint.send(sealed, key=options.key)
    interrupts.kills(job)
    if options.detach and not interrupts.code:
        try:
            await write("stdout", f"{job.id}\n".encode())
        except StintError:
            interrupts.say(f"job {job.id} is submitted")
            raise
        return 0
    narrator = Narrator(interrupts.console, quiet=options.quiet)
    narrator.say(f"job {job.id} is queued in {payload.qname!r}")
    with narrator.spinning(), interrupts.asking(narrator.settle):
        result = await show(job, write, narrator)
    return interrupts.code or result.exit_code


class Narrator:
    """Reports a job's progress on standard error: in lines, and on a terminal also by a spinner until it writes."""

    _WORDS: Final = {
        "started": "running on {runner}",
        "kill_requested": "a kill was requested",
        "held": "held: its runner was lost, and its queue waits for that runner or for `stint release`",
        "released": "released",
    }
    _DOING: Final = {
        "submitted": "waiting in its queue",
        "started": "being prepared",
        "launched": "running",
        "kill_requested": "being stopped",
        "held": "held",
        "opening": "opening its payload and secrets",
        "pulling": "pulling its image",
        "creating": "creating its container",
        "running": "running",
    }
    """What an event or a phase means for the spinner."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._spinner: Status | None = None

    @contextmanager
    def spinning(self) -> Iterator[None]:
        """Show the spinner during the block, on a terminal."""
        if self._console.is_terminal and not self._quiet:
            self._spinner = self._console.status("submitted", spinner="dots")
            self._spinner.start()
        try:
            yield
        finally:
            self.settle()

    def settle(self) -> None:
        """Take the spinner away: it must not stand between lines of output."""
        if self._spinner:
            self._spinner.stop()
            self._spinner = None

    def say(self, text: str) -> None:
        """Print a line, unless `quiet`."""
        if not self._quiet:
            self._console.print(f"stint: {printable(text)}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def fact(self, fact: Fact) -> None:
        """Report an event of the job."""
        if words := self._WORDS.get(fact.kind):
            self.say(words.format(runner=fact.runner))
        self._doing(fact.kind)

    def phase(self, phase: Phase) -> None:
        """Report what the runner does."""
        self._doing(phase.phase, "" if phase.progress is None else f" {phase.progress:.0%}")

    def _doing(self, name: str, much: str = "") -> None:
        if self._spinner and (words := self._DOING.get(name)):
            self._spinner.update(f"{words}{much}")

    def end(self, job: JobResult) -> None:
        """Report the job's end. Errors are printed even if `quiet`."""
        missing = "" if job.output_complete else INCOMPLETE
        for sentence in (job.error, missing, "The job was deleted." if job.deleted else ""):
            if sentence:
                self._console.print(f"stint: {sentences(sentence)}", markup=False, highlight=False, soft_wrap=True)
        code = f" with {job.return_code}" if job.return_code else ""
        reason = f" ({job.reason})" if job.reason else ""
        if not job.deleted:
            self.say(f"{job.status}{code}{reason}")


async def show(job: JobHandle, write: Write, narrator: Narrator) -> JobResult:
    """Write a job's output as it comes, and report its progress and its end."""
    async with aclosing(job.stream()) as items:
        async for item in items:
            match item:
                case Output():
                    narrator.settle()
                    await write(item.stream, item.data)
                case Fact():
                    narrator.fact(item)
                case Phase():
                    narrator.phase(item)
                case JobResult():
                    narrator.settle()
                    narrator.end(item)
                    return item
    raise AssertionError("A stream ends with a result, or raises.")
