"""Runs a job: submits it, follows it, and exits with its exit code."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from rich.console import Console

from stint.cli.errors import UNREACHABLE, USAGE
from stint.cli.interrupts import Interrupts
from stint.client.api import PAUSES, Api, ApiError, connect
from stint.client.follow import Write, follow
from stint.client.options import RunOptions
from stint.client.submission import needs, seal
from stint.core.errors import ConfigError, StintError
from stint.vault import Vault
from stint.vault.policies import CLIENT, SEALER

INCOMPLETE: Final = "Part of the job's output may be missing above."


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

    def fact(self, fact: Mapping[str, Any]) -> None:
        """Report an event of the job."""
        if words := self._WORDS.get(fact["kind"]):
            self.say(words.format_map(fact))

    def end(self, job: Mapping[str, Any]) -> None:
        """Report the job's end. Errors are printed even if `quiet`."""
        for sentence in (job.get("error"), "" if job.get("output_complete", True) else INCOMPLETE):
            if sentence:
                self._console.print(f"stint: {sentence}", markup=False, highlight=False, soft_wrap=True)
        code = f" with {job['return_code']}" if job["return_code"] else ""
        reason = f" ({job['reason']})" if job.get("reason") else ""
        self.say(f"{job['status']}{code}{reason}")


async def run(
    options: RunOptions, console: Console, write: Write = to_terminal, interrupts: Interrupts | None = None
) -> int:
    """Run a job to its end; returns the exit code: the job's own, 1 if it failed without one, or 2, 125, 130 or 143.

    `console` shows progress and errors to people. `interrupts` handles signals.
    """
    interrupts = interrupts or Interrupts(console)
    try:
        async with connect(options.endpoints) as api:
            return await interrupts.around(_run(options, api, console, write, interrupts))
    except StintError as error:
        console.print(f"stint: {error.sentence}", markup=False, highlight=False, soft_wrap=True)
        return interrupts.code or (USAGE if isinstance(error, ConfigError) else UNREACHABLE)


async def submit(options: RunOptions, api: Api) -> str:
    """Seal the job, hand it over, and submit it; returns its id.

    Raises:
        StintError: Vault or Stint cannot be reached, or refuses.
    """
    return await api.submit(await _sealed(options))


async def _sealed(options: RunOptions) -> Mapping[str, str]:
    """A submission's fields."""
    where = options.endpoints
    async with Vault(where.vault_addr, cacert=where.vault_cacert) as vault:
        with needs(CLIENT, SEALER):
            handover = await seal(vault, where.token, options.job, role=options.role, wrap_ttl=options.wrap_ttl)
    return {"qname": options.job.qname, **handover.fields()}


async def _run(options: RunOptions, api: Api, console: Console, write: Write, interrupts: Interrupts) -> int:
    fields = await _sealed(options)
    interrupts.may_have_a_job()
    job_id = await api.submit(fields)
    interrupts.kills(job_id, lambda: _kill(api, job_id))
    if options.detach and not interrupts.code:
        await write("stdout", f"{job_id}\n".encode())
        return 0
    narrator = Narrator(console, quiet=options.quiet)
    narrator.say(f"job {job_id} is queued in {options.job.qname!r}")
    job = await follow(api, job_id, write, narrator.fact)
    narrator.end(job)
    return interrupts.code or exit_code(job)


async def _kill(api: Api, job_id: str) -> None:
    """Request a kill, and repeat the request until Stint has answered."""
    for pause in PAUSES:
        try:
            return await api.kill(job_id)
        except ApiError as error:
            if not error.temporary:
                raise
        await asyncio.sleep(pause)
    return await api.kill(job_id)


def exit_code(job: Mapping[str, Any]) -> int:
    """The job's own exit code, but never 0 for a job that did not succeed."""
    code = int(job["return_code"])
    return code if code or job["status"] == "success" else 1
