"""Removes images that runners pulled and that no job has used for a while, and no others."""

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, EngineError, EngineUnavailableError
from stint.process.waiting import repeat
from stint_runner.engine.port import Engine, ImageUse
from stint_runner.housekeeping.image_records import ImageRecord, ImageRecords

log = structlog.get_logger()

INTERVAL: Final = 3600.0
"""Seconds between two sweeps at most; a quarter of the retention where that is shorter."""
FORGOTTEN_AFTER: Final = 30 * 24 * 3600.0
"""Seconds beyond the retention after which the records of an engine that is gone are dropped."""
_TRIES: Final = 5
"""Attempts to write a record that other runners change at the same time."""
_BROKER: Final = (BrokerUnavailableError, BrokerRefusedError)


class ImageKeeper:
    """Keeps records of pulled images in NATS, where all runners of an engine find them.

    An image gets a record only if the engine did not have it before the pull, and only images with a record are
    removed. An image that is in use, or that somebody else named, stays. For an engine without an id nothing is done.

    Args:
        records: where.
        engine: whose images these are.
        retention: seconds that an image stays after its last use by a job.
        now: the wall clock, in Unix seconds.
    """

    def __init__(
        self, records: ImageRecords, engine: Engine, *, retention: float, now: Callable[[], float] = time.time
    ) -> None:
        self._records = records
        self._engine = engine
        self._retention = retention
        self._now = now
        self._engine_id = ""
        self._untold: list[ImageUse] = []

    async def used(self, use: ImageUse) -> None:
        """Record that a job will use an image. Never fails: what NATS refuses is recorded with the next sweep."""
        try:
            await self._note(use)
        except (*_BROKER, EngineError) as error:
            log.warning("use of an image not recorded yet", image=use.name, error=error.sentence)
            self._untold.append(use)

    async def run(self) -> None:
        """Sweep until cancelled."""
        pause = min(INTERVAL, self._retention / 4)
        await repeat(self.sweep, lambda: pause, failed="sweep for unused images failed")

    async def sweep(self) -> list[str]:
        """Remove images that were not used for long enough; returns their ids.

        Raises:
            EngineError: the engine does not answer.
            BrokerUnavailableError, BrokerRefusedError: NATS likewise.
        """
        self._engine_id = await self._engine.engine_id()
        if not self._engine_id:
            return []
        await self._tell()
        images = await self._engine.images()
        records = [found async for found in self._records.of_engine(self._engine_id)]
        return [record.image_id for revision, record in records if await self._is_removed(record, revision, images)]

    async def _is_removed(self, record: ImageRecord, revision: int, images: Mapping[str, bool]) -> bool:
        if record.image_id not in images:
            await self._records.delete(record, revision=revision)
            return False
        if not images[record.image_id]:
            if self._now() - record.used < self._retention:
                return False
            if await self._remove(record):
                await self._records.delete(record, revision=revision)
                return True
        await self._put(msgspec.structs.replace(record, used=self._now()), revision)
        return False

    async def _remove(self, record: ImageRecord) -> bool:
        try:
            removed = await self._engine.remove_image(record.image_id, record.names)
        except EngineUnavailableError:
            raise
        except EngineError as error:
            log.warning("image not removed", image=record.names, error=error.sentence)
            return False
        log.info("unused image removed" if removed else "unused image stays", image=record.names)
        return removed

    # --- records ----------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for use in untold:
            await self.used(use)

    async def _note(self, use: ImageUse) -> None:
        if not self._engine_id:
            self._engine_id = await self._engine.engine_id()
        if not self._engine_id:
            return
        for _ in range(_TRIES):
            stored = await self._records.get(self._engine_id, use.image_id)
            record = self._updated(stored.record, use)
            if record is None or await self._put(record, stored.revision):
                return
        self._untold.append(use)

    def _updated(self, record: ImageRecord | None, use: ImageUse) -> ImageRecord | None:
        """The record with this use in it, None for an image that is not ours."""
        if record is None and not use.is_new:
            return None
        names = {*record.names} if record else set()
        if use.is_new or use.is_new_name:
            names.add(use.name)
        return ImageRecord(
            engine_id=self._engine_id, image_id=use.image_id, names=tuple(sorted(names)), used=self._now()
        )

    async def _put(self, record: ImageRecord, revision: int) -> bool:
        return await self._records.put(record, revision=revision, keep=self._retention + FORGOTTEN_AFTER)
