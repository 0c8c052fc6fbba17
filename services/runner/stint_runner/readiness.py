"""Whether a runner can run jobs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stint.core.errors import ConfigError, EngineError
from stint.jetstream import Broker
from stint.vault import Vault
from stint_runner.engine.port import Engine

STARTING: Final = "The runner is starting."
ENGINE_WITHIN: Final = 5.0
"""Seconds for the engine's answer: who asks whether the runner is ready does not wait for one that hangs."""


@dataclass
class Readiness:
    """What `/readyz` says.

    Attributes:
        parts: each says why it does not work, "" if it does.
    """

    broker: Broker
    vault: Vault
    engine: Engine
    parts: Sequence[Callable[[], str]] = (lambda: STARTING,)

    async def missing(self) -> str:
        """Why the runner cannot run jobs, "" if it can."""
        if not self.broker.client.is_connected:
            return "NATS is not reachable."
        if not await self.vault.health():
            return "Vault is not reachable or sealed."
        try:
            async with asyncio.timeout(ENGINE_WITHIN):
                await self.engine.info()
        except (EngineError, TimeoutError):
            return "The container engine is not reachable."
        return next((missing for part in self.parts if (missing := part())), "")


async def check_runtime(engine: Engine, runtime: str) -> None:
    """Refuse to start with an OCI runtime that the engine does not have: every job would fail.

    Runtimes of containerd's own (`io.containerd.…`) are not among those that an engine names. Nor is an engine waited
    for that does not answer.

    Raises:
        ConfigError: names those that it has.
    """
    if not runtime or runtime.startswith("io.containerd."):
        return
    try:
        async with asyncio.timeout(ENGINE_WITHIN):
            offered = await engine.runtimes()
    except (EngineError, TimeoutError):
        return
    if runtime not in offered:
        raise ConfigError(f"STINT_JOB_RUNTIME: the engine has no runtime {runtime}, only {', '.join(sorted(offered))}")
