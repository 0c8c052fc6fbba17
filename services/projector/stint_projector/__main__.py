"""Runs a projector: `python -m stint_projector` or `stint projector`."""

import asyncio
import sys
from datetime import timedelta

import structlog

from stint import health, service
from stint.config import ProjectorSettings
from stint.jetstream import (
    Broker,
    EventFeed,
    JetStreamEventLog,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
    declare,
)
from stint.subjects import PROJECTOR_DURABLE
from stint_projector.feed import Follower
from stint_projector.project import Projector

log = structlog.get_logger()


def build(settings: ProjectorSettings, broker: Broker) -> Projector:
    """A projector on this connection."""
    return Projector(
        log=JetStreamEventLog(broker),
        views=JetStreamViews(broker),
        payloads=JetStreamPayloads(broker),
        output=JetStreamOutput(broker),
        retention=timedelta(seconds=settings.retention),
    )


async def serve(settings: ProjectorSettings) -> None:
    """Follow the log until SIGTERM or SIGINT."""
    broker = Broker(settings.nats_url, prefix=settings.js_prefix, name="projector")
    stopping = asyncio.Event()

    async def readiness() -> str:
        return "" if broker.client.is_connected else "NATS is not reachable."

    async def follow() -> None:
        await broker.wait_connected()
        await declare(broker, settings.replicas)
        log.info("projector ready")
        await Follower(EventFeed(broker, PROJECTOR_DURABLE), build(settings, broker)).run()

    async with health.on_signals(stopping.set), health.serve(settings.health_port, readiness):
        broker.start()
        following, stopped = asyncio.create_task(follow()), asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (following, stopped):
            task.cancel()
        await asyncio.gather(following, stopped, return_exceptions=True)
        await broker.close()
        if following in done:
            following.result()
    log.info("projector stopped")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
