"""Says in the KV bucket `runners` who is alive, and what its engine has."""

import asyncio
import json
from typing import Any, Final

import structlog

from stint import __version__
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, EngineError
from stint.core.subjects import RUNNERS_BUCKET, kv_subject
from stint.jetstream import Broker
from stint.jetstream.protocol import lifetime
from stint.jetstream.views import DELETED
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.port import Engine

log = structlog.get_logger()

INTERVAL: Final = 10.0
"""Seconds between two signs of life."""
TIME_TO_LIVE: Final = 30
"""Seconds after which a silent runner is not listed any more."""


async def announce(broker: Broker, engine: Engine, worker: Worker, *, runner: str, capacity: int) -> None:
    """Keep the runner on the list until cancelled."""
    while True:
        value = {"runner": runner, "version": __version__, "capacity": capacity, "busy": worker.busy}
        body = json.dumps(value | await _figures(engine)).encode()
        await _put(broker, kv_subject(RUNNERS_BUCKET, runner), body, lifetime(TIME_TO_LIVE))
        await asyncio.sleep(INTERVAL)


async def withdraw(broker: Broker, runner: str) -> None:
    """Take the runner off the list."""
    await _put(broker, kv_subject(RUNNERS_BUCKET, runner), b"", DELETED)


async def _figures(engine: Engine) -> dict[str, Any]:
    try:
        return {"engine_id": await engine.engine_id(), **await engine.info()}
    except EngineError as error:
        log.warning("container engine does not answer", error=error.sentence)
        return {}


async def _put(broker: Broker, subject: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        await broker.publish(subject, body, headers)
    except BrokerUnavailableError:
        return  # the entry expires; the next one comes with the connection
    except BrokerRefusedError as error:
        log.warning("the runner could not be listed", error=error.sentence)
