"""Removes a job's containers: for its runner, for another runner on the same engine, and for the watchdog."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from stint.core.errors import EngineError
from stint.core.names.headers import LABEL_JOB, LABEL_READ_ONLY
from stint_runner.engine.port import Engine
from stint_runner.retry import retry

log = structlog.get_logger()

Check = Callable[[], Awaitable[object]]

CLEAN_UP: Final = 30.0  # seconds for which each step of a clean-up is retried


async def cleared(
    engine: Engine, job_id: str, *, image: bool = False, within: float = CLEAN_UP, check: Check | None = None
) -> bool:
    """Remove a job's containers as `remove_containers` does, for so many seconds. False if the engine would not."""
    return await _done(job_id, lambda: remove_containers(engine, job_id, image=image, check=check), within)


async def removed(engine: Engine, job_id: str, container_id: str) -> bool:
    """Remove a job's only container. False if the engine would not."""
    return await _done(job_id, lambda: engine.remove(container_id), CLEAN_UP)


async def _done(job_id: str, removal: Callable[[], Awaitable[object]], within: float) -> bool:
    try:
        await retry(removal, on=EngineError, within=within)
    except EngineError as error:
        log.warning("container not removed", job=job_id, error=error.sentence)
        return False
    return True


async def remove_containers(engine: Engine, job_id: str, *, image: bool = False, check: Check | None = None) -> int:
    """Remove all containers of a job from this engine; returns how many there were.

    The image of a read-only container is removed before it: while the image exists, a container shows that it does.
    With `image` it is looked for in any case. `check` is awaited before a container is removed, and may raise.
    """
    labels = {LABEL_JOB: job_id}
    found = await engine.find(labels)
    if found and check:
        await check()
    if image or any(LABEL_READ_ONLY in container.labels for container in found):
        for container in found:
            await engine.kill(container.container_id)
        await engine.discard(labels)
    for container in found:
        await engine.remove(container.container_id)
    return len(found)
