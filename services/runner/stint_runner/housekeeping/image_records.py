"""What runners remember about the images that they pulled: the KV bucket `images`."""

from collections.abc import AsyncIterator

import msgspec

from stint.core.codec import decode, encode
from stint.core.errors import UndecodableError
from stint.core.subjects import IMAGES_BUCKET, image_key, images_of
from stint.jetstream import Broker, Bucket


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a runner pulled onto an engine that did not have it.

    Attributes:
        engine_id, image_id: the engine's own ids.
        names: all by which runners pulled it.
        used: when a job last used it, in Unix seconds.
    """

    engine_id: str
    image_id: str
    names: tuple[str, ...]
    used: float


class StoredRecord(msgspec.Struct, frozen=True):
    """A key's last value, None if it was deleted or never was; and its revision, 0 if it never was."""

    revision: int
    record: ImageRecord | None


class ImageRecords:
    """The bucket. Every method raises `BrokerUnavailableError` and `BrokerRefusedError`."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, IMAGES_BUCKET)

    async def get(self, engine_id: str, image_id: str) -> StoredRecord:
        """What is known of an image."""
        entry = await self._bucket.read(image_key(engine_id, image_id))
        return StoredRecord(entry.revision, _record(entry.value)) if entry else StoredRecord(0, None)

    async def put(self, record: ImageRecord, *, revision: int, keep: float) -> bool:
        """Write a record for `keep` seconds, unless it has changed since `revision`. Returns whether it was written."""
        key = image_key(record.engine_id, record.image_id)
        return await self._bucket.write(key, encode(record), revision=revision, ttl=keep)

    async def delete(self, record: ImageRecord, *, revision: int) -> bool:
        """Delete a record, unless it has changed since `revision`. Returns whether it was deleted."""
        return await self._bucket.delete(image_key(record.engine_id, record.image_id), revision=revision)

    async def of_engine(self, engine_id: str) -> AsyncIterator[tuple[int, ImageRecord]]:
        """All of an engine's records, with their revisions. What is written meanwhile comes again."""
        async for entry in self._bucket.entries(images_of(engine_id)):
            if record := _record(entry.value):
                yield entry.revision, record


def _record(value: bytes | None) -> ImageRecord | None:
    """None for a deletion, an expired key's marker, and what is no record."""
    try:
        return decode(value or b"", ImageRecord)
    except UndecodableError:
        return None
