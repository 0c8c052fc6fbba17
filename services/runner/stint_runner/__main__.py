"""Runs a runner: `python -m stint_runner` or `stint runner`."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Final

import structlog

from stint.core.errors import BrokerClosedError, ConfigError
from stint.jetstream import (
    Access,
    Broker,
    JetStreamEventLog,
    JetStreamOutput,
    JetStreamPauses,
    JetStreamPayloads,
    JetStreamPhases,
    JetStreamWorkQueues,
    ServerClock,
    declare_when_possible,
)
from stint.ports import WorkQueues
from stint.process import health, service
from stint.process.background import Background, BackgroundTask, cancel
from stint.process.settings import RunnerSettings
from stint.process.signals import on_signals
from stint.process.waiting import InterruptedByEventError, unless
from stint.vault import AppRoleSession, Vault
from stint_runner.dispatch.adopt import Adoption
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import Engine
from stint_runner.housekeeping.image_keeper import ImageKeeper
from stint_runner.housekeeping.leftovers import Leftovers
from stint_runner.housekeeping.presence import Presence
from stint_runner.inputs.files import ImageLibrary
from stint_runner.inputs.memory import MemoryBudget
from stint_runner.inputs.opening import Opener
from stint_runner.lease.lease import LeaseTimes
from stint_runner.linux import return_large_memory
from stint_runner.phases import Phases
from stint_runner.readiness import Readiness, check_engine
from stint_runner.registry.logins import DockerConfigLogins
from stint_runner.registry.vault_logins import VaultLogins
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadlines, StateError, state_folder
from stint_runner.watchdog.guard import WATCHDOG, guarded

log = structlog.get_logger()

CLEAN_UP: Final = 15.0  # seconds beyond the kill grace that killed jobs may take to end after the drain

NAME_PAUSE: Final = 0.5  # seconds between two checks whether another runner of this name has ended

MakeEngine = Callable[[RunnerSettings, Vault, AppRoleSession], Engine]


async def serve(settings: RunnerSettings, make_engine: MakeEngine | None = None, *, watchdog: str = WATCHDOG) -> None:
    """Run jobs until SIGTERM or SIGINT, then drain. Raises ConfigError if a setting is wrong.

    `make_engine` makes another engine than Docker's; `watchdog` is the module of a watchdog with the same engine.
    """
    LeaseTimes(lease=settings.lease, takeover=settings.takeover).check()
    broker = Broker(Access.of(settings), prefix=settings.js_prefix, name=f"runner {settings.runner_id}")
    vault = Vault(settings.vault_addr, cacert=settings.vault_cacert)
    session = AppRoleSession(vault, settings.runner_role_id, settings.runner_secret_id.get_secret_value())
    queues = JetStreamWorkQueues(broker, lease=settings.lease, served=settings.served, replicas=settings.replicas)
    engine = (make_engine or docker_engine)(settings, vault, session)
    clock, stopping = ServerClock(broker), asyncio.Event()
    readiness = Readiness(broker, vault, engine)
    served = health.serve(settings.health_port, readiness.missing, readiness.failing)
    async with on_signals(stopping.set), served, vault:
        broker.start()
        abandoning = asyncio.create_task(_abandon_once_closed(broker), name="abandon")
        try:
            deadlines = await unless(stopping, _deadlines(settings))
            with closing(deadlines):
                async with guarded(deadlines, watchdog):
                    runner = build(settings, broker, vault, session, engine, deadlines, queues, clock)
                    await _work(runner, queues, broker, clock, readiness, stopping)
        except InterruptedByEventError:
            log.info("stopped before it could start")
        finally:
            await cancel(abandoning)
            await engine.close()
            await session.close()
            await broker.close()


async def _abandon_once_closed(broker: Broker) -> None:
    """Exit without draining once the connection to NATS is closed for good: nothing could be recorded any more.

    A runner that is started again at once adopts the jobs. Draining would use up the time for that.
    """
    await broker.closed.wait()
    try:
        broker.check_open()
    except BrokerClosedError as error:
        service.abandon(error)


def docker_engine(settings: RunnerSettings, vault: Vault, session: AppRoleSession) -> DockerEngine:
    """The engine, with registry logins from Vault before those of Docker's own client."""
    configured = DockerConfigLogins(settings.docker_config)
    configured.check()
    path = settings.registry_secrets
    logins = (VaultLogins(vault, session, path), configured) if path else (configured,)
    return DockerEngine.from_settings(settings, logins)


def build(
    settings: RunnerSettings,
    broker: Broker,
    vault: Vault,
    session: AppRoleSession,
    engine: Engine,
    deadlines: Deadlines,
    queues: WorkQueues,
    clock: ServerClock,
) -> Runner:
    """The parts of a runner, on real servers. Nothing is sent yet."""
    opener = Opener(
        vault=vault,
        session=session,
        role=settings.role,
        role_id=settings.role_id,
        compat=bool(settings.compat),
        now=clock.now,
    )
    return Runner(
        settings=settings,
        log=JetStreamEventLog(broker, as_cloudevents=settings.as_cloudevents),
        payloads=JetStreamPayloads(broker),
        output=JetStreamOutput(broker),
        queues=queues,
        pauses=JetStreamPauses(broker),
        engine=engine,
        opener=opener,
        deadlines=deadlines,
        memory=MemoryBudget(settings.prepare_memory),
        images=ImageLibrary(engine),
        phases=Phases(JetStreamPhases(broker)),
        now=clock.now,
    )


async def _work(
    runner: Runner,
    queues: JetStreamWorkQueues,
    broker: Broker,
    clock: ServerClock,
    readiness: Readiness,
    stopping: asyncio.Event,
) -> None:
    settings = runner.settings
    await unless(stopping, check_engine(runner.engine, settings.job_runtime))
    await unless(stopping, declare_when_possible(broker, settings.replicas))
    await unless(stopping, clock.known())
    await queues.start()
    dispatcher = Dispatcher(runner)
    worker = Worker(queues, dispatcher, capacity=settings.capacity)
    presence = Presence(broker, runner, worker)
    background = _background(runner, broker, clock, presence, Leftovers(runner, dispatcher))
    adoption = Adoption(runner, dispatcher)
    await adoption.run(stopping)  # if it is stopped, the drain below has the jobs that are adopted by then
    log.info("runner ready", runner=runner.id, capacity=settings.capacity, queues=settings.queues or "all")
    readiness.parts = (worker.missing, runner.deadlines.missing, background.missing, runner.space.missing)
    readiness.background = background
    working = asyncio.create_task(worker.run(adoption.adopted), name="worker")
    try:
        async with background.running():
            await asyncio.wait({working, asyncio.ensure_future(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
            await _drain(settings, worker, dispatcher, working)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await presence.withdraw()
    log.info("runner stopped")


def _background(
    runner: Runner, broker: Broker, clock: ServerClock, presence: Presence, leftovers: Leftovers
) -> Background:
    settings, engine = runner.settings, runner.engine
    parts = [
        BackgroundTask(
            name="announcement",
            run=presence.announce,
            missing="The runner is not on the list of runners.",
            works=lambda: presence.listed,
        ),
        BackgroundTask(name="drains", run=presence.heed_drains, missing="The runner cannot be asked to drain."),
        BackgroundTask(name="phases", run=runner.phases.run, missing="The phases of its jobs are not reported."),
        BackgroundTask(name="clock", run=clock.run, missing="The clock of NATS is not read."),
        BackgroundTask(name="leftovers", run=leftovers.run, missing="Leftovers of jobs are not removed."),
    ]
    if settings.image_retention:
        retention = settings.image_retention
        keeper = ImageKeeper(broker, engine, retention=retention, now=lambda: clock.now().timestamp())
        engine.tell_of_images(keeper.used)
        parts.append(BackgroundTask(name="images", run=keeper.run, missing="Unused images are not removed."))
    return Background(*parts)


async def _deadlines(settings: RunnerSettings) -> Deadlines:
    """The runner's deadlines, once no other process of its name uses them."""
    deadlines = Deadlines(state_folder(settings.state_dir, settings.runner_id))
    said = False
    try:
        while not deadlines.open():
            if not said:
                log.warning("another runner of this name is running, waiting for its end", runner=settings.runner_id)
            said = True
            await asyncio.sleep(NAME_PAUSE)
    except StateError as error:
        raise ConfigError(error.sentence) from None
    return deadlines


async def _drain(
    settings: RunnerSettings, worker: Worker, dispatcher: Dispatcher, working: "asyncio.Task[None]"
) -> None:
    """Let the running jobs continue for `STINT_DRAIN` seconds, then kill them, and wait for their clean-up."""
    log.info("draining", jobs=worker.busy)
    worker.drain()
    _, running = await asyncio.wait({working}, timeout=settings.drain)
    if running:
        log.warning("jobs are killed: the drain took too long", jobs=worker.busy)
        dispatcher.kill_all()
        await asyncio.wait({working}, timeout=settings.kill_grace + CLEAN_UP)
    if working.done():
        await working


def main() -> int:
    """The process's exit code."""
    return_large_memory()
    return service.run(RunnerSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
