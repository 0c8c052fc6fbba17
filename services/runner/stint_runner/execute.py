"""One claimed job: from its preparation to how it ended, and the clean-up."""

import asyncio
from typing import Final

import structlog

from stint.errors import EngineError, JobFailedError, VaultError
from stint.events import Ended
from stint_runner.engine import Exit
from stint_runner.output import OutputPump
from stint_runner.parts import Parts
from stint_runner.prepare import TEXT_LENGTH, Claimed, Preparation, remove_containers
from stint_runner.waiting import InterruptedByEventError, patiently, unless

log = structlog.get_logger()

OUTPUT_END: Final = 30.0
"""Seconds after a container's exit in which at least one more chunk of its output must have come."""


class Execution:
    """Runs one job. `run` once, then `clean_up`, whatever became of `run`."""

    def __init__(self, parts: Parts, claimed: Claimed) -> None:
        self._parts = parts
        self._job_id = claimed.job_id
        self._preparation = Preparation(parts, claimed)
        self._container = ""
        self._complete = True
        self._gone = True
        self._pump = OutputPump(parts.output, claimed.token, claimed.job_id, limit=parts.output_limit)

    async def run(self, killed: asyncio.Event) -> Ended:
        """Run the job to its end; `killed` stops it, at whatever point it is. Returns the fact to append."""
        try:
            prepared = await unless(killed, self._preparation.run())
            self._container = prepared.container_id
            if prepared.payload.mask_secrets:
                self._pump.mask(prepared.secrets.values())
            exited, stopped = await self._run_container(killed, prepared.timeout)
        except InterruptedByEventError:
            return self._failed("job killed", "killed")
        except JobFailedError as error:
            return self._failed(error.sentence, error.reason, error.status)
        except EngineError as error:
            return self._failed(f"Run container failed: {error.sentence}", "container")
        except VaultError as error:
            return self._failed(f"Vault did not answer: {error.sentence}", "secrets")
        return self._exited(exited, stopped, prepared.timeout)

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def _run_container(self, killed: asyncio.Event, seconds: float) -> tuple[Exit, str]:
        """How the container ended, and why it was stopped, "" if it ended by itself. 0 `seconds` are no time-out."""
        if killed.is_set():
            raise InterruptedByEventError
        self._gone = False
        await self._parts.engine.start(self._container)
        deadline = asyncio.get_running_loop().time() + seconds if seconds else None
        self._complete = False
        copying = asyncio.create_task(self._pump.copy(self._parts.engine.output(self._container)))
        try:
            ending = await self._until_exit(killed, deadline)
            self._gone = True
            await self._finish(copying)
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
        return ending

    async def _until_exit(self, killed: asyncio.Event, deadline: float | None) -> tuple[Exit, str]:
        engine = self._parts.engine
        waiting = asyncio.create_task(engine.wait(self._container))
        try:
            async with asyncio.timeout_at(deadline):
                return await unless(killed, asyncio.shield(waiting)), ""
        except (InterruptedByEventError, TimeoutError):
            reason = "killed" if killed.is_set() else "timeout"
            signalled = await engine.stop(self._container, self._parts.kill_grace)
            return await waiting, reason if signalled else ""
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _finish(self, copying: "asyncio.Task[None]") -> None:
        """Wait for the rest of the output, if the engine still gives it."""
        seen = -1
        while not copying.done() and self._pump.chunks != seen:
            seen = self._pump.chunks
            await asyncio.wait({copying}, timeout=OUTPUT_END)
        fault = copying.exception() if copying.done() else TimeoutError()
        self._complete = fault is None
        if fault is not None:
            log.warning("output incomplete", job=self._job_id, error=type(fault).__name__)

    # --- the end ----------------------------------------------------------------------------------------------------

    def _exited(self, exited: Exit, stopped: str, seconds: float) -> Ended:
        reason = stopped
        if exited.code and not stopped:
            reason = "oom" if exited.oom_killed else "exit_code"
        error = f"The job ran for longer than its time-out of {seconds:.12g} seconds." if stopped == "timeout" else ""
        return self._ended("failed" if reason else "success", reason, error, return_code=exited.code)

    def _failed(self, sentence: str, reason: str, status: str = "failed") -> Ended:
        return self._ended(status, reason, sentence)

    def _ended(self, status: str, reason: str, error: str = "", return_code: int = 0) -> Ended:
        return self._parts.fact(
            Ended,
            status=status,
            reason=reason,
            error=error[:TEXT_LENGTH],
            return_code=return_code,
            container_image=self._preparation.image[:TEXT_LENGTH],
            chunks=self._pump.chunks,
            output_bytes=self._pump.size,
            output_digest=self._pump.digest,
            output_complete=self._complete,
            output_truncated=self._pump.truncated,
            output_masked=self._pump.masked,
        )

    async def contain(self) -> None:
        """Make sure that no container of the job runs any more, for however long the engine does not answer."""
        if not self._gone:
            await patiently(lambda: remove_containers(self._parts, self._job_id), on=EngineError)
            self._gone = True

    async def clean_up(self) -> None:
        """Remove the job's containers and revoke its token. Safe to repeat."""
        await self._preparation.clean_up()
