"""A job's container, from its start to its exit, while its output is copied into the log."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import structlog

from stint.core.errors import EngineError, EngineUnansweredError, EngineUnavailableError, JobFailedError
from stint.core.names.headers import LABEL_JOB, LABEL_MASKED, LABEL_TIMEOUT
from stint.core.view import parse_time
from stint.process.waiting import InterruptedByEventError, interrupted_by
from stint_runner.engine.port import ContainerInfo, Exit, OutputPiece
from stint_runner.engine.removal import remove_containers
from stint_runner.inputs.secretfile import Seal, read_values
from stint_runner.job.prepare import Prepared
from stint_runner.linux import boot_time
from stint_runner.output.copying import Copying
from stint_runner.output.pump import OutputPump
from stint_runner.retry import retry
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadline

log = structlog.get_logger()

EPSILON: Final = 0.001  # seconds that are left of a time-out which is over


class ContainerState(Enum):
    """What is known of a container."""

    NOT_STARTED = auto()  # its command has not run
    UNCERTAIN = auto()  # the engine was asked to start it, and did not answer
    REFUSED = auto()  # the engine was asked to start it, and refused
    RUNNING = auto()  # its command runs, or has ended and the engine has not said so yet
    GONE = auto()  # its command has ended, or it was removed


class Exited(NamedTuple):
    """How a container ended. `stopped` is `killed` or `timeout` if this runner stopped it, else ""."""

    exit: Exit
    stopped: str


class JobContainer:
    """One job's container: `start` or `resume` it once. `contain` makes sure of its end, whatever became of that."""

    def __init__(self, runner: Runner, token: str, job_id: str) -> None:
        self.output = OutputPump(runner.output, token, job_id, limit=runner.settings.output_limit)
        self.state = ContainerState.NOT_STARTED
        self.timeout = 0.0  # seconds that it may run, 0 for no limit
        self._engine = runner.engine
        self._space = runner.space
        self._now = runner.now
        self._kill_grace = runner.settings.kill_grace
        self._job_id = job_id
        self._container_id = ""

    async def start(self, prepared: Prepared, killed: asyncio.Event, *, check: Callable[[], None]) -> Exited:
        """Start it, and return when it has exited and its output is stored.

        `killed` stops it; `check` is called right before the start, and may raise LeaseLostError. Raises EngineError if
        it was not started, or nobody knows how it ended; `state` tells which.
        """
        self._container_id, self.timeout = prepared.container_id, prepared.timeout
        if prepared.masked:
            await self._mask(prepared.masked)
        attached = await self._engine.attach(self._container_id, tty=prepared.tty)
        started = asyncio.Event()
        # Reading begins before the start: otherwise a connection that broke before it would be taken, once the
        # container has exited, for the end of its output.
        copying = Copying(self._engine, self.output, self._container_id, _held_until(started, attached))
        async with aclosing(attached), aclosing(copying):
            check()
            await self._start(copying)
            started.set()
            return await self._until_exit(killed, self.timeout, copying)

    async def resume(self, container: ContainerInfo, killed: asyncio.Event, earlier: Deadline, *, since: str) -> Exited:
        """Continue with a container that an earlier process of this runner started, as `start` does.

        Its labels tell its time-out and whether its output is masked. The time-out counts from `earlier.started`, or if
        that is not known from `since`, a time of NATS. Raises EngineError if nobody knows how it ended.
        """
        self._container_id, self.state = container.container_id, ContainerState.RUNNING
        self.timeout = float(container.labels.get(LABEL_TIMEOUT) or 0)
        ran = boot_time() - earlier.started if earlier.started else (self._now() - parse_time(since)).total_seconds()
        concealed = False
        if key := container.labels.get(LABEL_MASKED):
            seal = Seal(key, earlier.secrets_digest)
            concealed = not await retry(lambda: self._mask_sealed(seal), on=EngineUnavailableError)
        copying = Copying(self._engine, self.output, self._container_id, None, concealed=concealed)
        async with aclosing(copying):
            return await self._until_exit(killed, max(EPSILON, self.timeout - ran) if self.timeout else 0, copying)

    @property
    def ran(self) -> bool:
        """Whether its command ran, or may have."""
        return self.state not in {ContainerState.NOT_STARTED, ContainerState.REFUSED}

    async def contain(self) -> None:
        """Make sure that no container of the job runs, however long that takes.

        One whose start was refused is removed too: not every refusal proves that nothing runs.
        """
        if self.state not in {ContainerState.NOT_STARTED, ContainerState.GONE}:
            await retry(lambda: remove_containers(self._engine, self._job_id), on=EngineError)
            self.state = ContainerState.GONE

    async def fence(self, grace: float) -> None:
        """The lease is lost: give the job `grace` seconds from SIGTERM to SIGKILL."""
        if self.state in {ContainerState.UNCERTAIN, ContainerState.RUNNING}:
            try:
                await self._engine.stop(self._container_id, grace)
            except EngineError as error:
                log.warning("container not stopped", job=self._job_id, error=error.sentence)

    async def _start(self, copying: Copying) -> None:
        """Start it once. If the engine's answer is lost, ask the engine whether it was started."""
        self.state = ContainerState.UNCERTAIN
        try:
            with self._space.needed():
                await self._engine.start(self._container_id)
        except EngineUnavailableError:
            found = await retry(lambda: self._engine.find({LABEL_JOB: self._job_id}), on=EngineUnavailableError)
            if not any(container.started for container in found if container.container_id == self._container_id):
                # It may be started in a moment, or have been and be gone: it is removed now, and never tried again.
                await copying.give_up()
                raise EngineError("The engine did not say whether it was started.") from None
            log.warning("the answer to a start was lost, the container runs", job=self._job_id)
        except EngineError:
            self.state = ContainerState.REFUSED
            raise
        self.state = ContainerState.RUNNING

    async def _until_exit(self, killed: asyncio.Event, seconds: float, copying: Copying) -> Exited:
        """Wait for the exit and for the rest of the output; 0 `seconds` are no time-out."""
        try:
            exited = await self._exit(killed, seconds)
        except EngineError:
            await copying.give_up()
            raise
        self.state = ContainerState.GONE
        await copying.finish(killed)
        return exited

    async def _exit(self, killed: asyncio.Event, seconds: float) -> Exited:
        """Survives a restart of the engine: its containers may live on, and if not, it knows how they ended."""
        waiting = asyncio.create_task(retry(self._wait, on=EngineUnavailableError))
        try:
            async with asyncio.timeout(seconds or None), interrupted_by(killed):
                return Exited(await asyncio.shield(waiting), "")
        except (InterruptedByEventError, TimeoutError):
            reason = "killed" if killed.is_set() else "timeout"
            signalled = await self._stop()
            return Exited(await waiting, reason if signalled else "")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _stop(self) -> bool:
        """Whether this runner has stopped it, also if the engine did not answer, and it had exited when asked again."""
        unanswered = False

        async def once() -> bool:
            nonlocal unanswered
            try:
                return await self._engine.stop(self._container_id, self._kill_grace) or unanswered
            except EngineUnansweredError:
                unanswered = True
                raise

        return await retry(once, on=EngineUnavailableError)

    async def _wait(self) -> Exit:
        try:
            return await self._engine.wait(self._container_id)
        except EngineUnavailableError:
            self.output.gap = True  # an engine that was killed took along what it had read and not yet logged
            raise

    async def _mask(self, values: Iterable[Any]) -> None:
        """In a thread: a megabyte of values takes a second."""
        await asyncio.to_thread(self.output.mask, values)

    async def _mask_sealed(self, seal: Seal) -> bool:
        """Read the values to mask. Without them the job continues, but its output is not stored."""
        try:
            await self._mask(await read_values(self._engine, self._container_id, seal))
        except EngineUnavailableError:
            raise
        except (EngineError, JobFailedError) as error:
            log.warning("output not shown", job=self._job_id, error=error.sentence)
            return False
        return True


async def _held_until(
    started: asyncio.Event, pieces: AsyncGenerator[OutputPiece, None]
) -> AsyncGenerator[OutputPiece, None]:
    """Output is stored only once the engine has answered the start; a connection that breaks is noticed at once."""
    async with aclosing(pieces):
        async for piece in pieces:
            await started.wait()
            yield piece
