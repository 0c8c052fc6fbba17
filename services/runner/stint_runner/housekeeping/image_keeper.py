"""Removes images that runners pulled and that no job has used for a while, and no others."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import msgspec
import structlog

from stint.core.codec import decode, encode
from stint.core.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    EngineError,
    EngineUnavailableError,
    UndecodableError,
)
from stint.core.names.streams import IMAGES_BUCKET, image_key, images_of
from stint.jetstream import Broker, Bucket
from stint.process.waiting import repeat
from stint_runner.engine.port import Engine, ImageUse

log = structlog.get_logger()

INTERVAL: Final = 3600.0  # seconds between two sweeps at most; a quarter of the retention where that is shorter
FORGOTTEN_AFTER: Final = 30 * 24 * 3600.0  # seconds beyond the retention until a gone engine's records are dropped
NOTED_EVERY: Final = 60.0  # seconds between two records of an image's use here; at most a tenth of the retention
_TRIES: Final = 5  # attempts to write a record that other runners change at the same time


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image that runners pulled, by these names, onto an engine without it, and its last use in Unix seconds."""

    engine_id: str
    image_id: str
    names: tuple[str, ...]
    used: float


def image_record(value: bytes | None) -> ImageRecord | None:
    """None for a deletion, an expired key's marker, and what is no record."""
    try:
        return decode(value or b"", ImageRecord)
    except UndecodableError:
        return None


class ImageKeeper:
    """Keeps records of pulled images in the KV bucket `images`, where all runners of an engine find them.

    An image gets a record only if the engine did not have it before the pull, and only images with a record are
    removed, `retention` seconds after their last use by a job. An image that is in use, or that somebody else named,
    stays. For an engine without an id nothing is done. `now` is the clock of NATS, in Unix seconds.
    """

    def __init__(self, broker: Broker, engine: Engine, *, retention: float, now: Callable[[], float]) -> None:
        self._bucket = Bucket(broker, IMAGES_BUCKET)
        self._engine = engine
        self._retention = retention
        self._now = now
        self._engine_id = ""
        self._untold: list[ImageUse] = []
        self._noted: dict[str, float] = {}

    async def used(self, use: ImageUse) -> None:
        """Record a use, but none that follows within `NOTED_EVERY` seconds.

        Raises nothing: what could not be recorded is recorded by the next sweep.
        """
        again = self._noted.get(use.image_id, -inf) + min(NOTED_EVERY, self._retention / 10)
        if not use.is_new and not use.is_new_name and self._now() < again:
            return
        self._noted[use.image_id] = self._now()
        await self._note(use)

    async def run(self) -> None:
        """Sweep until cancelled."""
        pause = min(INTERVAL, self._retention / 4)
        await repeat(self.sweep, lambda: pause, failed="sweep for unused images failed")

    async def sweep(self) -> list[str]:
        """Remove images that were not used for long enough; returns their ids. Raises the errors of engine and NATS."""
        if not await self._known():
            return []
        untold, self._untold = self._untold, []
        for use in untold:
            await self._note(use)
        images = await self._engine.images()
        self._noted = {image_id: noted for image_id, noted in self._noted.items() if image_id in images}
        entries = [entry async for entry in self._bucket.entries(images_of(self._engine_id))]
        records = [(entry.revision, image_record(entry.value)) for entry in entries]
        return [
            record.image_id
            for revision, record in records
            if record and await self._is_removed(record, revision, images)
        ]

    async def _is_removed(self, record: ImageRecord, revision: int, images: Mapping[str, bool]) -> bool:
        if record.image_id not in images:
            await self._delete(record, revision)
            return False
        if not images[record.image_id]:
            if self._now() - record.used < self._retention:
                return False
            if await self._remove(record):
                await self._delete(record, revision)
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

    async def _known(self) -> str:
        self._engine_id = str((await self._engine.info()).get("engine_id", ""))
        return self._engine_id

    async def _note(self, use: ImageUse) -> None:
        """Record a use now, or with the next sweep."""
        try:
            noted = await self._is_noted(use)
        except (BrokerUnavailableError, BrokerRefusedError, EngineError) as error:
            log.warning("use of an image not recorded yet", image=use.name, error=error.sentence)
            noted = False
        if not noted:
            self._untold.append(use)

    async def _is_noted(self, use: ImageUse) -> bool:
        """Record a use, if the engine has a name to record it under. False if others changed the record meanwhile."""
        if not (self._engine_id or await self._known()):
            return True
        for _ in range(_TRIES):
            entry = await self._bucket.read(image_key(self._engine_id, use.image_id))
            record = self._updated(image_record(entry.value) if entry else None, use)
            if record is None or await self._put(record, entry.revision if entry else 0):
                return True
        return False

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
        key, keep = image_key(record.engine_id, record.image_id), self._retention + FORGOTTEN_AFTER
        return bool(await self._bucket.write(key, encode(record), revision=revision, ttl=keep))

    async def _delete(self, record: ImageRecord, revision: int) -> None:
        await self._bucket.delete(image_key(record.engine_id, record.image_id), revision=revision)
