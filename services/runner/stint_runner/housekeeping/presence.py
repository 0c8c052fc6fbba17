"""Announces the runner and its engine's figures in the KV bucket `runners`, and hears when it is to be drained."""

import asyncio
import json
import random
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import structlog

from stint import __version__
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, EngineError
from stint.core.names.streams import RUNNERS_BUCKET
from stint.core.names.subjects import drain_subject
from stint.jetstream import Broker, Bucket
from stint.process.background import rounds
from stint.process.waiting import any_of
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.port import Engine
from stint_runner.runner import Runner

log = structlog.get_logger()

INTERVAL: Final = 10.0  # seconds between two announcements; jittered by a tenth
AGAIN: Final = 1.0  # seconds until the first announcement is repeated if it fails: the runner is not ready before
FIGURES_WITHIN: Final = 5.0
"""Seconds for the engine's figures: a runner whose engine hangs is announced without them, or would count as lost."""
TIME_TO_LIVE: Final = 24 * 3600
"""Seconds after which a silent runner is forgotten. It counts as lost much sooner: see the API's `ALIVE`."""
REPEATEDLY: Final = 2  # announcements in a row that are replaced by another's: then there are two runners of one name
NAME_LENGTH: Final = 128  # characters of the name of who asked for the drain


class Presence:
    """What others see of this runner."""

    def __init__(self, broker: Broker, runner: Runner, worker: Worker) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, RUNNERS_BUCKET)
        self._runner = runner
        self._worker = worker
        self._started = runner.now().isoformat()
        self._drained_by = ""
        self._changed = asyncio.Event()
        self._revision: int | None = None  # of its entry, if that is known
        self._replaced = 0  # announcements in a row that found another one in its place
        self.listed = False  # whether it has ever been put on the list. Its entry stays there for `TIME_TO_LIVE`

    async def announce(self) -> None:
        """Keep the runner on the list until cancelled."""
        while True:
            self._changed.clear()
            body = json.dumps({**self._report(), **await _figures(self._runner.engine)}).encode()
            written = await _reported(self._write(body))
            self.listed |= written
            if task := rounds.get():
                task.ended("announcement", failed=not written)
            # Jittered: two of one name that write at the same moment would each find its own entry every other time.
            pause = INTERVAL * random.uniform(0.9, 1) if self.listed else AGAIN  # noqa: S311 - jitter
            await any_of(self._changed, within=pause)

    async def _write(self, body: bytes) -> None:
        """Write this runner's entry, and say so if others do it as well. Once may be the last word of an earlier one.

        A start is not refused: the entry may be of a runner that was lost on another machine, which this one replaces.
        """
        last, self._revision = self._revision, None  # if no answer comes, this very write may have changed it
        revision = await self._bucket.write(self._runner.id, body, revision=last, ttl=TIME_TO_LIVE)
        self._replaced = 0 if revision else self._replaced + 1
        if self._replaced == REPEATEDLY:
            log.error("another runner has this name, which only one may have: see STINT_RUNNER_ID")
        self._revision = revision or await self._bucket.write(self._runner.id, body, ttl=TIME_TO_LIVE)

    def _report(self) -> dict[str, Any]:
        return {
            "runner": self._runner.id,
            "version": __version__,
            "capacity": self._runner.settings.capacity,
            "kill_grace": self._runner.settings.kill_grace,
            "busy": self._worker.busy,
            "queues": self._runner.settings.served.patterns,
            "started": self._started,
            "draining": self._worker.draining,
            "drained_by": self._drained_by,
        }

    async def heed_drains(self) -> None:
        """Drain when the API asks for it. The process ends with its last job."""
        async with self._broker.subscribe(drain_subject(self._runner.id)) as orders:
            async for order in orders.messages:
                self._drained_by = order.data.decode(errors="replace")[:NAME_LENGTH]
                log.info("asked to drain", by=self._drained_by, jobs=self._worker.busy)
                self._worker.drain()
                self._changed.set()

    async def withdraw(self) -> None:
        """Take the runner off the list."""
        await _reported(self._bucket.delete(self._runner.id))


async def _figures(engine: Engine) -> Mapping[str, str | int]:
    try:
        async with asyncio.timeout(FIGURES_WITHIN):
            return await engine.info()
    except (EngineError, TimeoutError) as error:
        sentence = error.sentence if isinstance(error, EngineError) else f"No answer within {FIGURES_WITHIN:g} s."
        log.warning("container engine does not answer", error=sentence)
        return {}


async def _reported(writing: Awaitable[object]) -> bool:
    """Whether it was written. If not, the entry expires; the next one comes with the connection."""
    try:
        await writing
    except BrokerUnavailableError:
        return False
    except BrokerRefusedError as error:
        log.warning("the runner could not be listed", error=error.sentence)
        return False
    return True
