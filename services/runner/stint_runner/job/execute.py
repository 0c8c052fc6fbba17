"""One job of this runner: from its preparation, or its adoption, to how it ended, and the clean-up."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from stint.core.errors import (
    EngineError,
    EngineUnavailableError,
    JobFailedError,
    VaultError,
)
from stint.core.events import Ended, Launched
from stint.core.job import Job
from stint.core.subjects import LABEL_JOB
from stint.process.waiting import InterruptedByEventError, unless
from stint_runner.engine.port import Exit, OutputPiece
from stint_runner.engine.removal import cleared, remove_containers
from stint_runner.inputs.secretfile import Seal, read_values
from stint_runner.job.prepare import TEXT_LENGTH, Claimed, Preparation
from stint_runner.output.copying import Copying
from stint_runner.output.pump import OutputPump
from stint_runner.parts import Parts
from stint_runner.waiting import patiently

log = structlog.get_logger()


class Execution(ABC):
    """Runs one job. `run` once, then `clean_up`, whatever became of `run`."""

    def __init__(self, parts: Parts, token: str, job_id: str) -> None:
        self._parts = parts
        self._job_id = job_id
        self._container = ""
        self._ran = False
        self._gone = True
        self._concealed = False
        self._pump = OutputPump(parts.output, token, job_id, limit=parts.output_limit)

    async def run(self, killed: asyncio.Event) -> Ended:
        """Run the job to its end; `killed` stops it, at whatever point it is. Returns the fact to append.

        Raises:
            LeaseLostError: it was to be started when its lease was over.
        """
        try:
            exited, stopped, seconds = await self._run(killed)
        except InterruptedByEventError:
            return self._failed("job killed", "killed")
        except JobFailedError as error:
            return self._failed(error.sentence, error.reason, error.status)
        except EngineError as error:
            if self._ran:
                return self._ended("unknown", "container", f"How the container ended is not known: {error.sentence}")
            return self._failed(f"Run container failed: {error.sentence}", "container")
        except VaultError as error:
            return self._failed(f"Vault did not answer: {error.sentence}", "secrets")
        return self._exited(exited, stopped, seconds)

    @abstractmethod
    async def _run(self, killed: asyncio.Event) -> tuple[Exit, str, float]:
        """How the container ended, why it was stopped ("" if it ended by itself), and its time-out."""

    @property
    @abstractmethod
    def _image(self) -> str:
        """As the payload named it."""

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def _attend(
        self, killed: asyncio.Event, seconds: float, attached: AsyncGenerator[OutputPiece, None] | None = None
    ) -> tuple[Exit, str]:
        """See a started container to its end; 0 `seconds` are no time-out. `attached` is its output, if we have it."""
        deadline = asyncio.get_running_loop().time() + seconds if seconds else None
        copying = Copying(self._parts.engine, self._pump, self._container, attached, concealed=self._concealed)
        try:
            ending = await self._until_exit(killed, deadline)
            self._gone = True
            await copying.finish()
        except EngineError:
            await copying.give_up()
            raise
        finally:
            await copying.cancel()
        return ending

    async def _until_exit(self, killed: asyncio.Event, deadline: float | None) -> tuple[Exit, str]:
        """Through a restart of the engine too: its containers may have lived on, and if not, it knows their end."""
        engine = self._parts.engine
        waiting = asyncio.create_task(patiently(self._wait, on=EngineUnavailableError))
        try:
            async with asyncio.timeout_at(deadline):
                return await unless(killed, asyncio.shield(waiting)), ""
        except (InterruptedByEventError, TimeoutError):
            reason = "killed" if killed.is_set() else "timeout"
            signalled = await patiently(
                lambda: engine.stop(self._container, self._parts.kill_grace), on=EngineUnavailableError
            )
            return await waiting, reason if signalled else ""
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _wait(self) -> Exit:
        try:
            return await self._parts.engine.wait(self._container)
        except EngineUnavailableError:
            self._pump.gap = True  # an engine that was killed took along what it had read and not yet logged
            raise

    # --- the end ----------------------------------------------------------------------------------------------------

    def _exited(self, exited: Exit, stopped: str, seconds: float) -> Ended:
        reason = stopped
        if exited.code and not stopped:
            reason = "oom" if exited.oom_killed else "exit_code"
        error = f"The job ran for longer than its time-out of {seconds:.12g} seconds." if stopped == "timeout" else ""
        return self._ended("failed" if reason else "success", reason, error, return_code=exited.code)

    def broken(self, error: Exception) -> Ended:
        """The fact to append where `run` raised what it should not."""
        sentence = f"Internal error in the runner: {type(error).__name__}."
        return self._ended("unknown" if self._ran else "failed", "internal", sentence)

    def _failed(self, sentence: str, reason: str, status: str = "failed") -> Ended:
        return self._ended(status, reason, sentence)

    def _ended(self, status: str, reason: str, error: str = "", return_code: int = 0) -> Ended:
        return self._parts.fact(
            Ended,
            status=status,
            reason=reason,
            error=error[:TEXT_LENGTH],
            return_code=return_code,
            container_image=self._image[:TEXT_LENGTH],
            chunks=self._pump.chunks,
            output_bytes=self._pump.size,
            output_digest=self._pump.digest,
            output_complete=self._pump.complete or not self._ran,
            output_truncated=self._pump.truncated,
            output_masked=self._pump.masked,
        )

    async def contain(self) -> None:
        """Make sure that no container of the job runs any more, for however long the engine does not answer."""
        if not self._gone:
            await patiently(lambda: remove_containers(self._parts.engine, self._job_id), on=EngineError)
            self._gone = True

    async def fence(self, grace: float) -> None:
        """The lease is lost: give the job `grace` seconds from SIGTERM on, before `clean_up` takes its container."""
        if self._container and not self._gone:
            try:
                await self._parts.engine.stop(self._container, grace)
            except EngineError as error:
                log.warning("container not stopped", job=self._job_id, error=error.sentence)

    async def clean_up(self) -> bool:
        """Remove the job's containers. Safe to repeat. False if one may be left."""
        return await cleared(self._parts.engine, self._job_id)


class ClaimedExecution(Execution):
    """A job that this runner has claimed."""

    def __init__(self, parts: Parts, claimed: Claimed, before_start: Callable[[str, str], None]) -> None:
        """`before_start` is called right before a start, and may raise LeaseLostError.

        It is told the container's id, and the digest of its secrets file.
        """
        super().__init__(parts, claimed.token, claimed.job_id)
        self._preparation = Preparation(parts, claimed)
        self._before_start = before_start

    @property
    def _image(self) -> str:
        return self._preparation.image

    async def _run(self, killed: asyncio.Event) -> tuple[Exit, str, float]:
        prepared = await unless(killed, self._preparation.run())
        self._container = prepared.container_id
        if prepared.payload.mask_secrets:
            self._pump.mask(prepared.secrets.values())
        if killed.is_set():
            raise InterruptedByEventError
        attached = await self._parts.engine.attach(self._container, tty=prepared.payload.tty)
        async with aclosing(attached):
            self._before_start(self._container, prepared.secrets_digest)
            await self._start()
            return *await self._attend(killed, prepared.timeout, attached), prepared.timeout

    async def _start(self) -> None:
        """Start the container, once. Where the engine's answer is lost it is asked what became of it.

        Raises:
            EngineError: it was not started; or, if `_ran` is set by then, nobody knows.
        """
        engine = self._parts.engine
        self._gone = False
        try:
            await engine.start(self._container)
        except EngineUnavailableError:
            self._ran = True
            found = await patiently(lambda: engine.find({LABEL_JOB: self._job_id}), on=EngineUnavailableError)
            if not any(container.started for container in found if container.container_id == self._container):
                # It may be started in a moment, or have been and be gone: it is removed now, and never tried again.
                raise EngineError("The engine did not say whether it was started.") from None
            log.warning("the answer to a start was lost, the container runs", job=self._job_id)
        self._ran = True

    async def clean_up(self) -> bool:
        """Also revokes the job's token."""
        return await self._preparation.clean_up()


class AdoptedExecution(Execution):
    """A job whose container was started by an earlier process of this runner. Its token ends by itself."""

    def __init__(self, parts: Parts, job: Job, container_id: str, *, seal: Seal | None, timeout: float) -> None:
        """`timeout` is what is left of its time-out, 0 for none; with a `seal` secret values must not be shown."""
        super().__init__(parts, job.token, job.job_id)
        self._launched = job.fact(Launched)
        self._container = container_id
        self._ran = True
        self._gone = False
        self._seal = seal
        self._timeout = timeout

    @property
    def _image(self) -> str:
        return self._launched.container_image if self._launched else ""

    async def _run(self, killed: asyncio.Event) -> tuple[Exit, str, float]:
        if self._seal is not None:
            seal = self._seal
            await patiently(lambda: self._mask(seal), on=EngineUnavailableError)
        return *await self._attend(killed, self._timeout), self._timeout

    async def _mask(self, seal: Seal) -> None:
        """Without the values the job goes on, but what it writes stays unseen."""
        try:
            self._pump.mask(await read_values(self._parts.engine, self._container, seal))
        except JobFailedError as error:
            log.warning("output not shown", job=self._job_id, error=error.sentence)
            self._concealed = True
