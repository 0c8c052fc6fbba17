"""Ends what a runner cannot end itself: `python -m stint_runner.watchdog FOLDER PID`, started by the runner PID.

A runner that is frozen, or whose engine hangs, does not stop its containers when their leases are over. This process
does: at a job's deadline it kills the runner, then the job's containers. If the runner dies it stays until no deadline
of that runner is left: another process of the same runner may come and go on with the jobs.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

from stint import logs
from stint.config import EngineSettings, load
from stint.errors import ConfigError, EngineError
from stint.signals import stopping_signals
from stint.waiting import InterruptedByEventError, unless
from stint_runner.clock import boot_time
from stint_runner.deadlines import Deadlines, Noted
from stint_runner.docker import DockerEngine
from stint_runner.docker_client import tls_context
from stint_runner.engine import Engine
from stint_runner.guard import READY
from stint_runner.lease import KILL
from stint_runner.processes import incarnation, kill_container
from stint_runner.removal import remove_containers

log = structlog.get_logger()

TICK: Final = 1.0
"""Seconds between two looks at the folder, at most. A new deadline is further away than that."""
RETRY: Final = 0.1
"""Seconds between two looks, at least."""
ENGINE_WITHIN: Final = KILL / 2
"""Seconds for an engine to remove a container, before its processes are killed without it."""


class Watchdog:
    """Watches one runner."""

    def __init__(self, deadlines: Deadlines, engine: Engine, runner: int) -> None:
        """`runner` is its process id; it must be this process's parent when it is given."""
        self._deadlines = deadlines
        self._engine = engine
        self._handle = os.pidfd_open(runner)
        self._runner = incarnation(runner)
        self._dead = asyncio.Event()
        if os.getppid() != runner:
            self._dead.set()

    async def run(self) -> None:
        """Watch until cancelled, or until the runner is dead and nothing of it is left."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._handle, self._on_death, loop)
        while True:
            noted = list(self._deadlines.all())
            await self._end(found for found in noted if found.due <= boot_time())
            if self._dead.is_set() and not any(self._is_left(found) for found in noted):
                return
            await asyncio.sleep(self._pause())

    def _on_death(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._handle)
        self._dead.set()

    def _is_left(self, found: Noted) -> bool:
        return found.deadline.process == self._runner and not found.deadline.hold

    def _pause(self) -> float:
        due = (found.due for found in self._deadlines.all() if not found.deadline.hold)
        return min(TICK, max(RETRY, min(due, default=boot_time() + TICK) - boot_time()))

    async def _end(self, overdue: Iterable[Noted]) -> None:
        async with asyncio.TaskGroup() as group:
            for found in overdue:
                if not found.deadline.hold:
                    group.create_task(self._end_job(found))

    async def _end_job(self, found: Noted) -> None:
        """Freeze the runner first and kill it last.

        A container whose first process it is ends with it, this process too.
        """
        job_id = found.deadline.job_id
        latest = self._deadlines.get(job_id)
        if latest is None or latest.due > boot_time():
            return
        mine = latest.deadline.process == self._runner and not self._dead.is_set()
        if mine:
            log.error("the runner is killed: a job's lease is over and the job was not ended", job=job_id)
            signal.pidfd_send_signal(self._handle, signal.SIGSTOP)
        if await self._removed(job_id):
            self._deadlines.drop(job_id)
            log.warning("job's containers ended", job=job_id)
        elif latest.deadline.container_id:
            # Without the engine at least the processes; the container is tried again with the next look.
            killed = kill_container(latest.deadline.container_id)
            log.warning("processes of a container killed", job=job_id, processes=killed)
        if mine:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def _removed(self, job_id: str) -> bool:
        """Whether the engine says that there is none of the job's containers any more."""
        try:
            async with asyncio.timeout(ENGINE_WITHIN):
                while await remove_containers(self._engine, job_id):
                    continue
                return True
        except (EngineError, TimeoutError) as error:
            log.warning("the engine does not remove a container", job=job_id, error=type(error).__name__)
            return False


def docker_engine(settings: EngineSettings) -> Engine:
    """The runner's engine."""
    return DockerEngine(
        settings.docker_host,
        ssl_context=tls_context(
            settings.docker_host, cert_path=settings.docker_cert_path, verify=bool(settings.docker_tls_verify)
        ),
        api_version=settings.docker_api_version,
    )


async def _watch(folder: Path, runner: int, engine: Engine) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stopping_signals():
        loop.add_signal_handler(number, stopping.set)
    watchdog = Watchdog(Deadlines(folder), engine, runner)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    try:
        with contextlib.suppress(InterruptedByEventError):
            await unless(stopping, watchdog.run())
    finally:
        await engine.close()


def main(make_engine: Callable[[EngineSettings], Engine] = docker_engine) -> int:
    """The process's exit code. The engine is Docker's if no other is given."""
    logs.configure()
    folder, runner = Path(sys.argv[1]), int(sys.argv[2])
    try:
        engine = make_engine(load(EngineSettings, os.environ))
        asyncio.run(_watch(folder, runner, engine))
    except (ConfigError, ProcessLookupError) as error:
        sys.stderr.write(f"stint: the watchdog cannot watch: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
