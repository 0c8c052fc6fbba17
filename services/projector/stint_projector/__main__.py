"""Runs a projector: `python -m stint_projector` or `stint projector`."""

import asyncio
import contextlib
import sys
from datetime import timedelta

import structlog

from stint import health, service
from stint.config import ProjectorSettings
from stint.jetstream import (
    Broker,
    EventFeed,
    JetStreamEventLog,
    JetStreamHistory,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
    Sourcing,
    declare,
)
from stint.signals import on_signals
from stint.subjects import PROJECTOR_DURABLE
from stint.waiting import InterruptedByEventError, unless
from stint_projector.agenda import Agenda
from stint_projector.facts import FactJanitor
from stint_projector.feed import Follower
from stint_projector.janitor import Janitor
from stint_projector.project import Projector
from stint_projector.sweeper import Sweeper

log = structlog.get_logger()


def build(settings: ProjectorSettings, broker: Broker, agenda: Agenda) -> Projector:
    """A projector on this connection."""
    return Projector(
        log=JetStreamEventLog(broker),
        views=JetStreamViews(broker),
        payloads=JetStreamPayloads(broker),
        output=JetStreamOutput(broker),
        agenda=agenda,
        retention=timedelta(seconds=settings.retention),
    )


def build_janitor(settings: ProjectorSettings, broker: Broker, projector: Projector, agenda: Agenda) -> Janitor:
    """Removes views, output and payloads."""
    return Janitor(
        log=JetStreamEventLog(broker),
        history=JetStreamHistory(broker),
        views=JetStreamViews(broker),
        payloads=JetStreamPayloads(broker),
        output=JetStreamOutput(broker),
        projector=projector,
        agenda=agenda,
        retention=timedelta(seconds=settings.retention),
    )


def build_fact_janitor(settings: ProjectorSettings, broker: Broker, projector: Projector) -> FactJanitor:
    """Removes facts."""
    return FactJanitor(
        log=JetStreamEventLog(broker),
        history=JetStreamHistory(broker),
        projector=projector,
        keep=timedelta(seconds=max(settings.history, settings.retention)),
    )


def build_sweeper(settings: ProjectorSettings, broker: Broker) -> Sweeper:
    """Ends lost jobs."""
    return Sweeper(
        log=JetStreamEventLog(broker),
        history=JetStreamHistory(broker),
        astray_for=timedelta(seconds=2 * (settings.lease + settings.takeover)),
    )


async def work(settings: ProjectorSettings, broker: Broker) -> None:
    """Keep the view and the work queues up with the log, end what is lost, and remove what is over, until cancelled."""
    agenda = Agenda()
    projector = build(settings, broker, agenda)
    async with asyncio.TaskGroup() as group:
        group.create_task(Follower(EventFeed(broker, PROJECTOR_DURABLE), projector).run())
        group.create_task(_anew_after_each_outage(broker, build_janitor(settings, broker, projector, agenda)))
        group.create_task(build_fact_janitor(settings, broker, projector).run())
        group.create_task(build_sweeper(settings, broker).run())
        group.create_task(Sourcing(broker).run())


async def _anew_after_each_outage(broker: Broker, janitor: Janitor) -> None:
    """A server that was killed may have brought back what had been removed: it is swept for at once."""
    while True:
        await broker.wait_connected()
        with contextlib.suppress(InterruptedByEventError):
            await unless(broker.lost, janitor.run())


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
        await work(settings, broker)

    async with on_signals(stopping.set), health.serve(settings.health_port, readiness):
        broker.start()
        try:
            with contextlib.suppress(InterruptedByEventError):
                await unless(stopping, follow())
        finally:
            await broker.close()
    log.info("projector stopped")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
