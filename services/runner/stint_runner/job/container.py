"""A job's container, from right before its start to its exit, with its output on the way into the log."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from enum import Enum, auto
from typing import NamedTuple

import structlog

from stint.core.errors import EngineError, EngineUnavailableError, JobFailedError
from stint.core.subjects import LABEL_JOB
from stint.process.waiting import InterruptedByEventError, interrupted_by
from stint_runner.engine.port import Exit
from stint_runner.engine.removal import remove_containers
from stint_runner.inputs.secretfile import Seal, read_values
from stint_runner.job.prepare import Prepared
from stint_runner.output.copying import Copying
from stint_runner.output.pump import OutputPump
from stint_runner.parts import Parts
from stint_runner.waiting import patiently

log = structlog.get_logger()


class Phase(Enum):
    """How far a container is, as far as it is known."""

    NOT_STARTED = auto()
    """Its command has not run."""
    UNCERTAIN = auto()
    """The engine was asked to start it, and did not answer."""
    REFUSED = auto()
    """The engine was asked to start it, and refused."""
    RUNNING = auto()
    """Its command runs, or has ended without the engine's having said so."""
    GONE = auto()
    """Its command has ended, or it was removed."""


class Exited(NamedTuple):
    """How a container ended.

    Attributes:
        exit: what the engine says.
        stopped: `killed` or `timeout` if this runner stopped it, else "".
    """

    exit: Exit
    stopped: str


class JobContainer:
    """One job's container: `start` or `resume` it once. `contain` makes sure of its end, whatever became of that."""

    def __init__(self, parts: Parts, token: str, job_id: str) -> None:
        self.output = OutputPump(parts.output, token, job_id, limit=parts.output_limit)
        self.phase = Phase.NOT_STARTED
        self._parts = parts
        self._engine = parts.engine
        self._job_id = job_id
        self._container_id = ""

    async def start(self, prepared: Prepared, killed: asyncio.Event, *, check: Callable[[], None]) -> Exited:
        """Start it, and return when it has exited and its output is stored.

        Args:
            prepared: the container.
            killed: stops it.
            check: called right before the start; may raise LeaseLostError.

        Raises:
            EngineError: it was not started, or nobody knows how it ended; `phase` tells which.
        """
        self._container_id = prepared.container_id
        if prepared.payload.mask_secrets:
            self.output.mask(prepared.secrets.values())
        attached = await self._engine.attach(self._container_id, tty=prepared.payload.tty)
        # Reading begins before the start: otherwise a connection that broke before it would be taken, once the
        # container has exited, for the end of its output.
        copying = Copying(self._engine, self.output, self._container_id, attached)
        async with aclosing(attached), aclosing(copying):
            check()
            await self._start(copying)
            return await self._until_exit(killed, prepared.timeout, copying)

    async def resume(self, container_id: str, killed: asyncio.Event, *, seal: Seal | None, time_left: float) -> Exited:
        """Go on with one that an earlier process of this runner has started, as `start` does.

        Args:
            container_id: the engine's id.
            killed: stops it.
            seal: of its secrets file, None if no secrets need to be masked.
            time_left: seconds, 0 for no limit.

        Raises:
            EngineError: nobody knows how it ended.
        """
        self._container_id, self.phase = container_id, Phase.RUNNING
        concealed = seal is not None and not await patiently(lambda: self._mask(seal), on=EngineUnavailableError)
        copying = Copying(self._engine, self.output, container_id, None, concealed=concealed)
        async with aclosing(copying):
            return await self._until_exit(killed, time_left, copying)

    @property
    def ran(self) -> bool:
        """Whether its command ran, or may have."""
        return self.phase not in {Phase.NOT_STARTED, Phase.REFUSED}

    async def contain(self) -> None:
        """Make sure that no container of the job runs any more, for however long the engine does not answer.

        One whose start was refused is removed too: not every refusal proves that nothing runs.
        """
        if self.phase not in {Phase.NOT_STARTED, Phase.GONE}:
            await patiently(lambda: remove_containers(self._engine, self._job_id), on=EngineError)
            self.phase = Phase.GONE

    async def fence(self, grace: float) -> None:
        """The lease is lost: give the job `grace` seconds from SIGTERM to SIGKILL."""
        if self.phase in {Phase.UNCERTAIN, Phase.RUNNING}:
            try:
                await self._engine.stop(self._container_id, grace)
            except EngineError as error:
                log.warning("container not stopped", job=self._job_id, error=error.sentence)

    async def _start(self, copying: Copying) -> None:
        """Start it once. Where the engine's answer is lost it is asked what became of it."""
        self.phase = Phase.UNCERTAIN
        try:
            await self._engine.start(self._container_id)
        except EngineUnavailableError:
            found = await patiently(lambda: self._engine.find({LABEL_JOB: self._job_id}), on=EngineUnavailableError)
            if not any(container.started for container in found if container.container_id == self._container_id):
                # It may be started in a moment, or have been and be gone: it is removed now, and never tried again.
                await copying.give_up()
                raise EngineError("The engine did not say whether it was started.") from None
            log.warning("the answer to a start was lost, the container runs", job=self._job_id)
        except EngineError:
            self.phase = Phase.REFUSED
            raise
        self.phase = Phase.RUNNING

    async def _until_exit(self, killed: asyncio.Event, seconds: float, copying: Copying) -> Exited:
        """Wait for the exit and for the rest of the output; 0 `seconds` are no time-out."""
        try:
            exited = await self._exit(killed, seconds)
        except EngineError:
            await copying.give_up()
            raise
        self.phase = Phase.GONE
        await copying.finish()
        return exited

    async def _exit(self, killed: asyncio.Event, seconds: float) -> Exited:
        """Through a restart of the engine too: its containers may have lived on, and if not, it knows their end."""
        waiting = asyncio.create_task(patiently(self._wait, on=EngineUnavailableError))
        try:
            async with asyncio.timeout(seconds or None), interrupted_by(killed):
                return Exited(await asyncio.shield(waiting), "")
        except (InterruptedByEventError, TimeoutError):
            reason = "killed" if killed.is_set() else "timeout"
            signalled = await patiently(
                lambda: self._engine.stop(self._container_id, self._parts.kill_grace), on=EngineUnavailableError
            )
            return Exited(await waiting, reason if signalled else "")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _wait(self) -> Exit:
        try:
            return await self._engine.wait(self._container_id)
        except EngineUnavailableError:
            self.output.gap = True  # an engine that was killed took along what it had read and not yet logged
            raise

    async def _mask(self, seal: Seal) -> bool:
        """Learn the values to mask. Without them the job continues, but its output is not shown."""
        try:
            self.output.mask(await read_values(self._engine, self._container_id, seal))
        except JobFailedError as error:
            log.warning("output not shown", job=self._job_id, error=error.sentence)
            return False
        return True
