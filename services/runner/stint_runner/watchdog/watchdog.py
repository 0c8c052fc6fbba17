"""Ends jobs that their runner cannot end: `python -m stint_runner.watchdog FOLDER PID`, started by the runner PID.

A runner that is frozen, or whose engine hangs, does not stop its containers when their leases are over. This process
kills the job's containers and the runner at the job's deadline. If the runner dies, it stays until no deadline of that
runner is left: another process of the same runner may start and adopt the jobs.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog

from stint.core.errors import ConfigError, EngineError
from stint.process import logs
from stint.process.core_dumps import prevent_core_dumps
from stint.process.signals import on_signals
from stint.process.waiting import InterruptedByEventError, unless
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import Engine, EngineAccess
from stint_runner.engine.removal import remove_containers
from stint_runner.lease.lease import KILL
from stint_runner.linux import boot_time, incarnation, kill_container
from stint_runner.watchdog.deadlines import Deadline, Deadlines, StoredDeadline

log = structlog.get_logger()

READY: Final = b"watching\n"  # what a watchdog writes once it watches
TICK: Final = 1.0  # the longest pause between two reads of the folder, in seconds. No new deadline is that near
RETRY: Final = 0.1  # the shortest pause, in seconds
ENGINE_WITHIN: Final = KILL / 2  # seconds for the engine to remove a container, before its processes are killed


class Watchdog:
    """Watches one runner."""

    def __init__(self, deadlines: Deadlines, engine: Engine, runner: int) -> None:
        """`runner` is its process id; it must be this process's parent when it is given."""
        self._deadlines = deadlines
        self._engine = engine
        self._handle = os.pidfd_open(runner)
        self._runner = incarnation(runner)
        self._dead = asyncio.Event()
        # Those that count no more, also if the disk keeps them. A runner may claim, or adopt, the job anew.
        self._ended: set[Deadline] = set()
        self._tried: set[Deadline] = set()  # were overdue: what is left of their jobs is tried after the longest pause
        if os.getppid() != runner:
            self._dead.set()

    async def run(self) -> None:
        """Watch until cancelled, or until the runner is dead and nothing of it is left."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._handle, self._on_death, loop)
        while True:
            deadlines = self._kept()
            await self._end([found for found in deadlines if self._is_overdue(found)])
            if self._dead.is_set() and not any(self._is_left(found) for found in deadlines):
                return
            await asyncio.sleep(self._pause())

    def _kept(self) -> Sequence[StoredDeadline]:
        return [found for found in self._deadlines.all() if found.deadline not in self._ended]

    def _on_death(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._handle)
        self._dead.set()

    def _is_left(self, found: StoredDeadline) -> bool:
        return found.deadline.process == self._runner and not found.deadline.hold

    def _is_overdue(self, found: StoredDeadline) -> bool:
        return not found.deadline.hold and found.due <= boot_time()

    def _pause(self) -> float:
        fresh = (found for found in self._kept() if found.deadline not in self._tried)
        due = (found.due for found in fresh if not found.deadline.hold)
        return min(TICK, max(RETRY, min(due, default=boot_time() + TICK) - boot_time()))

    async def _end(self, overdue: Sequence[StoredDeadline]) -> None:
        """End these jobs concurrently. A failure affects no other job, and is retried after the pause.

        The runner is frozen first and killed last: if it is its container's first process, that container ends with it,
        and so does this process.
        """
        own = [found.deadline.job_id for found in overdue if found.deadline.process == self._runner]
        if own and not self._dead.is_set():
            self._signal_runner(signal.SIGSTOP)
            log.error("killing the runner: leases are over and their jobs were not ended", jobs=own)
        outcomes = await asyncio.gather(*(self._end_job(found.deadline) for found in overdue), return_exceptions=True)
        self._tried.update(found.deadline for found in overdue)
        for found, outcome in zip(overdue, outcomes, strict=True):
            if isinstance(outcome, Exception):
                log.error("job's containers not ended, retrying", job=found.deadline.job_id, exc_info=outcome)
        if own:
            self._signal_runner(signal.SIGKILL)

    def _signal_runner(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(self._handle, number)

    async def _end_job(self, deadline: Deadline) -> None:
        job_id = deadline.job_id
        if await self._removed(deadline):
            self._ended.add(deadline)
            self._deadlines.drop(job_id)
            log.warning("job's containers ended", job=job_id)
        elif deadline.container_id and (killed := kill_container(deadline.container_id)):
            # Kill at least the processes; the removal of the container is retried.
            log.warning("processes of a container killed", job=job_id, processes=killed)

    async def _removed(self, deadline: Deadline) -> bool:
        try:
            async with asyncio.timeout(ENGINE_WITHIN):
                while await remove_containers(self._engine, deadline.job_id):
                    continue
                return True
        except (EngineError, TimeoutError) as error:
            if deadline not in self._tried:
                job_id, kind = deadline.job_id, type(error).__name__
                log.warning("the engine does not remove a container, retrying", job=job_id, error=kind)
            return False


async def _watch(folder: Path, runner: int, engine: Engine) -> None:
    stopping = asyncio.Event()
    async with on_signals(stopping.set):
        watchdog = Watchdog(Deadlines(folder), engine, runner)
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        try:
            with contextlib.suppress(InterruptedByEventError):
                await unless(stopping, watchdog.run())
        finally:
            await engine.close()


class Access(msgspec.Struct):
    """Where the engine is, as the runner tells its watchdog. See `stint_runner.engine.port.EngineAccess`."""

    docker_host: str = ""
    docker_cert_path: str = ""
    docker_tls_verify: str = ""
    docker_api_version: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """From the variables that the runner has set."""
        return cls(*(environ.get(field.upper(), "") for field in cls.__struct_fields__))


def main(make_engine: Callable[[EngineAccess], Engine] = DockerEngine.from_settings) -> int:
    """The process's exit code. The engine is Docker's if no other is given."""
    prevent_core_dumps()
    logs.configure()
    folder, runner = Path(sys.argv[1]), int(sys.argv[2])
    try:
        engine = make_engine(Access.of(os.environ))
        asyncio.run(_watch(folder, runner, engine))
    except (ConfigError, ProcessLookupError) as error:
        sys.stderr.write(f"stint: the watchdog cannot watch: {error}\n")
        return 2
    return 0
