"""Whether a runner can run jobs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from stint.core.errors import ConfigError, EngineError, EngineUnavailableError
from stint.jetstream import Broker
from stint.process.background import Background
from stint.vault import Vault
from stint_runner.engine.port import LOG_DRIVER, Engine

log = structlog.get_logger()

STARTING: Final = "The runner is starting."
ENGINE_WITHIN: Final = 5.0  # seconds for the engine's answer: who asks for readiness does not wait for one that hangs


@dataclass
class Readiness:
    """What `/readyz` says. Each of the `parts` says why it does not work, "" if it does."""

    broker: Broker
    vault: Vault
    engine: Engine
    parts: Sequence[Callable[[], str]] = (lambda: STARTING,)
    background: Background = field(default_factory=Background)

    def failing(self) -> Sequence[str]:
        """What fails all the time while the runner can run jobs."""
        return self.background.failing()

    async def missing(self) -> str:
        """Why the runner cannot run jobs, "" if it can."""
        if not self.broker.client.is_connected:
            return "NATS is not reachable."
        if not await self.vault.health():
            return "Vault is not reachable or sealed."
        try:
            async with asyncio.timeout(ENGINE_WITHIN):
                await self.engine.info()
        except (EngineUnavailableError, TimeoutError):
            return "The container engine is not reachable."
        except EngineError as error:
            return f"The container engine refuses to tell its state: {error.sentence}"
        return next((missing for part in self.parts if (missing := part())), "")


async def check_engine(engine: Engine, runtime: str) -> None:
    """Raise ConfigError if every job would fail on this engine: it lacks the log driver or the OCI runtime.

    Limits that it cannot enforce are only logged. Runtimes of containerd's own (`io.containerd.…`) are not among those
    that an engine names. An engine that does not answer is not waited for.
    """
    try:
        async with asyncio.timeout(ENGINE_WITHIN):
            offers = await engine.offers()
    except (EngineError, TimeoutError):
        return
    if LOG_DRIVER not in offers.log_drivers:
        raise ConfigError(f"DOCKER_HOST: the engine has no log driver {LOG_DRIVER}, as Podman: it must be Docker's")
    if runtime and not runtime.startswith("io.containerd.") and runtime not in offers.runtimes:
        named = ", ".join(sorted(offers.runtimes))
        raise ConfigError(f"STINT_JOB_RUNTIME: the engine has no runtime {runtime}, only {named}")
    if offers.unenforced:
        log.warning("the engine cannot enforce limits of jobs", ignored=offers.unenforced)
