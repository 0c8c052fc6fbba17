"""Runs a projector: `python -m stint_projector` or `stint projector`."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

import structlog

from stint.core.names.streams import PROJECTOR_DURABLE
from stint.jetstream import (
    Access,
    Broker,
    EventFeed,
    JetStreamEventLog,
    JetStreamHistory,
    JetStreamOutput,
    JetStreamPayloads,
    JetStreamViews,
    ServerClock,
    Sourcing,
    declare_when_possible,
    serve_consumers,
    serve_removals,
)
from stint.process import health, service
from stint.process.background import Background, BackgroundTask
from stint.process.settings import ProjectorSettings
from stint.process.signals import on_signals
from stint_projector.auditor import Auditor
from stint_projector.follower import Follower
from stint_projector.janitor import EventJanitor, Janitor
from stint_projector.project import Projector
from stint_projector.sweeper import Sweeper

log = structlog.get_logger()


def build(settings: ProjectorSettings, broker: Broker, clock: ServerClock) -> Projector:
    """A projector on this connection. What it removes is gone, so let the clock be read before it works."""
    return Projector(
        log=JetStreamEventLog(broker, as_cloudevents=settings.as_cloudevents),
        views=JetStreamViews(broker),
        payloads=JetStreamPayloads(broker),
        output=JetStreamOutput(broker),
        retention=timedelta(seconds=settings.retention),
        now=clock.now,
    )


def build_sweeper(settings: ProjectorSettings, broker: Broker, clock: ServerClock) -> Sweeper:
    """Ends lost jobs."""
    astray_for = timedelta(seconds=2 * (settings.lease + settings.takeover))
    return Sweeper(build(settings, broker, clock), JetStreamHistory(broker), astray_for)


def build_background(settings: ProjectorSettings, broker: Broker, clock: ServerClock) -> Background:
    """The tasks that update the view and the work queues, end lost jobs, and remove what is no longer kept."""
    projector, history = build(settings, broker, clock), JetStreamHistory(broker)
    follower = Follower(EventFeed(broker, PROJECTOR_DURABLE), projector)
    sweeper = build_sweeper(settings, broker, clock)
    janitor, auditor = Janitor(projector, history), Auditor(projector, history, sweeper.suspect)
    events = EventJanitor(projector, history, timedelta(seconds=max(settings.history, settings.retention)))

    return Background(
        BackgroundTask(
            name="follower", run=follower.run, missing="The log is not followed.", works=lambda: follower.following
        ),
        BackgroundTask(name="janitor", run=janitor.run, missing="Expired jobs are not removed."),
        # Begun again after each outage: a NATS server that was killed may have brought back what had been removed.
        BackgroundTask(
            name="auditor", run=lambda: broker.anew(auditor.run), missing="What is stored is not compared with the log."
        ),
        BackgroundTask(name="event janitor", run=events.run, missing="Old events are not removed."),
        BackgroundTask(name="sweeper", run=sweeper.run, missing="Lost jobs are not ended."),
        BackgroundTask(
            name="removals", run=lambda: serve_removals(broker), missing="Some work queues keep jobs that are over."
        ),
        BackgroundTask(
            name="consumers",
            run=lambda: serve_consumers(broker, in_memory=settings.replicas == 1),
            missing="Pools of runners get no consumers for queues that have none.",
        ),
        BackgroundTask(name="clock", run=clock.run, missing="The clock of NATS is not read."),
        BackgroundTask(
            name="sourcing", run=Sourcing(broker).run, missing="The filling of the work queues is not monitored."
        ),
    )


async def serve(settings: ProjectorSettings) -> None:
    """Follow the log until SIGTERM or SIGINT. Raises BrokerClosedError if the connection to NATS is closed for good."""
    broker = Broker(Access.of(settings), prefix=settings.js_prefix, name="projector")
    clock, background = ServerClock(broker), Background()
    stopping = asyncio.Event()

    async def readiness() -> str:
        if not broker.client.is_connected:
            return "NATS is not reachable."
        return background.missing() if clock.is_known else "The clock of NATS is not known yet."

    def failing() -> Sequence[str]:
        return background.failing()

    async def work() -> None:
        nonlocal background
        await declare_when_possible(broker, settings.replicas)
        await clock.known()
        background = build_background(settings, broker, clock)
        log.info("projector ready")
        await background.run()

    async with on_signals(stopping.set), health.serve(settings.health_port, readiness, failing):
        await broker.serve(work(), stopping)
    log.info("projector stopped")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
