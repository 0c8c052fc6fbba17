"""What runners remember about the images that they pulled: the KV bucket `images`."""

from collections.abc import AsyncIterator

import msgspec

from stint.core.codec import decode, encode
from stint.core.errors import UndecodableError
from stint.core.subjects import IMAGES_BUCKET, image_key, images_of, kv_stream, kv_subject
from stint.jetstream import Broker
from stint.jetstream.protocol import EXPECTED_SEQUENCE, ErrorCode, Stored, check, error_code, lifetime, sequence_of
from stint.jetstream.stream import Stream
from stint.jetstream.views import DELETED


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
        self._broker = broker
        self._bucket = Stream(broker, kv_stream(IMAGES_BUCKET))

    async def get(self, engine_id: str, image_id: str) -> StoredRecord:
        """What is known of an image."""
        subject = kv_subject(IMAGES_BUCKET, image_key(engine_id, image_id))
        message = await self._bucket.last(subject)
        return StoredRecord(sequence_of(message), _record(message)) if message else StoredRecord(0, None)

    async def put(self, record: ImageRecord, *, revision: int, keep: float) -> bool:
        """Write a record for `keep` seconds, unless it has changed since `revision`. Returns whether it was written."""
        headers = {EXPECTED_SEQUENCE: str(revision), **lifetime(keep)}
        return await self._write(record, encode(record), headers)

    async def delete(self, record: ImageRecord, *, revision: int) -> bool:
        """Delete a record, unless it has changed since `revision`. Returns whether it was deleted."""
        return await self._write(record, b"", {EXPECTED_SEQUENCE: str(revision), **DELETED})

    async def of_engine(self, engine_id: str) -> AsyncIterator[tuple[int, ImageRecord]]:
        """All of an engine's records, with their revisions. What is written meanwhile comes again."""
        async for messages in self._bucket.pages(kv_subject(IMAGES_BUCKET, images_of(engine_id))):
            for message in messages:
                if record := _record(message):
                    yield sequence_of(message), record

    async def _write(self, record: ImageRecord, value: bytes, headers: dict[str, str]) -> bool:
        subject = kv_subject(IMAGES_BUCKET, image_key(record.engine_id, record.image_id))
        answer = await self._broker.publish(subject, value, headers)
        if error_code(answer) == ErrorCode.WRONG_LAST_SEQUENCE:
            return False
        check(answer)
        return True


def _record(message: Stored) -> ImageRecord | None:
    """None for a deletion, an expired key's marker, and what is no record."""
    try:
        return decode(message.data, ImageRecord)
    except UndecodableError:
        return None
