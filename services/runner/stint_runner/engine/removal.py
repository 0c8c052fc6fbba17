"""The end of a job's containers, by whoever comes to it: its own runner, another on the same engine, the watchdog."""

from typing import Final

import structlog

from stint.core.errors import EngineError
from stint.core.subjects import LABEL_JOB, LABEL_READ_ONLY
from stint_runner.engine.port import Engine
from stint_runner.retry import retry

log = structlog.get_logger()

CLEAN_UP: Final = 30.0
"""Seconds that each step of a clean-up is tried for."""


async def cleared(engine: Engine, job_id: str, *, image: bool = False, within: float = CLEAN_UP) -> bool:
    """Remove a job's containers as `remove_containers` does, for so many seconds. False if the engine would not."""
    try:
        await retry(lambda: remove_containers(engine, job_id, image=image), on=EngineError, within=within)
    except EngineError as error:
        log.warning("container not removed", job=job_id, error=error.sentence)
        return False
    return True


async def remove_containers(engine: Engine, job_id: str, *, image: bool = False) -> int:
    """Remove whatever containers a job has on this engine; returns how many there were.

    The image beside read-only ones goes before them, so that as long as it is there a container tells of it. With
    `image` it is looked for in any case.
    """
    labels = {LABEL_JOB: job_id}
    found = await engine.find(labels)
    if image or any(LABEL_READ_ONLY in container.labels for container in found):
        for container in found:
            await engine.kill(container.container_id)
        await engine.discard(labels)
    for container in found:
        await engine.remove(container.container_id)
    return len(found)
