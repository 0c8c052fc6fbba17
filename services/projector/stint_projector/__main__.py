"""Runs a projector: `python -m stint_projector` or `stint projector`."""

import asyncio
import contextlib
import sys
from datetime import timedelta

import structlog

from stint.core.subjects import PROJECTOR_DURABLE
from stint.jetstream import (
    Access,
    Broker,
    EventFeed,
    JetStreamEventLog,
    JetStreamHistory,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
    Sourcing,
    declare_when_possible,
)
from stint.process import health, service
from stint.process.background import Background, Part
from stint.process.settings import ProjectorSettings
from stint.process.signals import on_signals
from stint.process.waiting import InterruptedByEventError, unless
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
    """Removes old events."""
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


def build_background(settings: ProjectorSettings, broker: Broker) -> Background:
    """The tasks that update the view and the work queues, end lost jobs, and remove what is no longer kept."""
    agenda = Agenda()
    projector = build(settings, broker, agenda)
    follower = Follower(EventFeed(broker, PROJECTOR_DURABLE), projector)
    janitor = build_janitor(settings, broker, projector, agenda)
    facts = build_fact_janitor(settings, broker, projector)
    sweeper = build_sweeper(settings, broker)
    return Background(
        Part(name="follower", run=follower.run, missing="The log is not followed.", works=lambda: follower.following),
        Part(
            name="janitor",
            run=lambda: _anew_after_each_outage(broker, janitor),
            missing="Expired jobs are not removed.",
        ),
        Part(name="facts", run=facts.run, missing="Old events are not removed."),
        Part(name="sweeper", run=sweeper.run, missing="Lost jobs are not ended."),
        Part(name="sourcing", run=Sourcing(broker).run, missing="The filling of the work queues is not monitored."),
    )


async def _anew_after_each_outage(broker: Broker, janitor: Janitor) -> None:
    """Sweep again after each outage: a NATS server that was killed may have brought back what had been removed."""
    while True:
        await broker.wait_connected()
        with contextlib.suppress(InterruptedByEventError):
            await unless(broker.lost, janitor.run())


async def serve(settings: ProjectorSettings) -> None:
    """Follow the log until SIGTERM or SIGINT.

    Raises:
        BrokerClosedError: the connection to NATS was closed for good.
    """
    broker = Broker(Access.of(settings), prefix=settings.js_prefix, name="projector")
    background = build_background(settings, broker)
    stopping = asyncio.Event()

    async def readiness() -> str:
        return background.missing() if broker.client.is_connected else "NATS is not reachable."

    async def work() -> None:
        await declare_when_possible(broker, settings.replicas)
        log.info("projector ready")
        await background.run()

    async with on_signals(stopping.set), health.serve(settings.health_port, readiness):
        broker.start()
        try:
            with contextlib.suppress(InterruptedByEventError):
                await unless(stopping, broker.while_open(work()))
        finally:
            await broker.close()
    log.info("projector stopped")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
