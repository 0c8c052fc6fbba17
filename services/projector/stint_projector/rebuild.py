"""`stint rebuild`: throws the view away and makes it again from the log."""

import asyncio
import sys
from typing import Final

from stint import service
from stint.config import ProjectorSettings
from stint.eventlog import EventLog, ViewStore
from stint.jetstream import Broker, JetStreamEventLog, JetStreamViews, declare
from stint_projector.__main__ import build
from stint_projector.agenda import Agenda
from stint_projector.project import Projector

SIDE_BY_SIDE: Final = 16
"""Jobs that are projected at a time."""


async def rebuild(log: EventLog, views: ViewStore, projector: Projector) -> int:
    """Make the whole view again; returns the number of jobs. A projector may go on meanwhile."""
    await views.clear()
    count = 0
    free = asyncio.Semaphore(SIDE_BY_SIDE)

    async def project(job_id: str) -> None:
        async with free:
            await projector.project(job_id, create=True)

    async with asyncio.TaskGroup() as group:
        async for job_id in log.job_ids():
            async with free:
                group.create_task(project(job_id))
            count += 1
    return count


async def serve(settings: ProjectorSettings) -> None:
    """Rebuild and say how many jobs there were."""
    broker = Broker(settings.nats_url, prefix=settings.js_prefix, name="rebuild")
    broker.start()
    try:
        await broker.wait_connected()
        await declare(broker, settings.replicas)
        projector = build(settings, broker, Agenda())
        count = await rebuild(JetStreamEventLog(broker), JetStreamViews(broker), projector)
    finally:
        await broker.close()
    sys.stdout.write(f"The view was made again from {count} jobs.\n")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
