"""Announces the runner and its engine's figures in the KV bucket `runners`."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, Final

import structlog

from stint import __version__
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, EngineError
from stint.core.subjects import RUNNERS_BUCKET
from stint.jetstream import Broker, Bucket
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.port import Engine

log = structlog.get_logger()

INTERVAL: Final = 10.0
"""Seconds between two announcements."""
TIME_TO_LIVE: Final = 30
"""Seconds after which a silent runner is no longer listed."""


async def announce(broker: Broker, engine: Engine, worker: Worker, *, runner: str, capacity: int) -> None:
    """Keep the runner on the list until cancelled."""
    while True:
        value = {"runner": runner, "version": __version__, "capacity": capacity, "busy": worker.busy}
        body = json.dumps(value | await _figures(engine)).encode()
        await _reported(Bucket(broker, RUNNERS_BUCKET).write(runner, body, ttl=TIME_TO_LIVE))
        await asyncio.sleep(INTERVAL)


async def withdraw(broker: Broker, runner: str) -> None:
    """Take the runner off the list."""
    await _reported(Bucket(broker, RUNNERS_BUCKET).delete(runner))


async def _figures(engine: Engine) -> dict[str, Any]:
    try:
        return {"engine_id": await engine.engine_id(), **await engine.info()}
    except EngineError as error:
        log.warning("container engine does not answer", error=error.sentence)
        return {}


async def _reported(writing: Awaitable[object]) -> None:
    try:
        await writing
    except BrokerUnavailableError:
        return  # the entry expires; the next one comes with the connection
    except BrokerRefusedError as error:
        log.warning("the runner could not be listed", error=error.sentence)
