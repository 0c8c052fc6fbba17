"""What runners remember about the images that they pulled: the KV bucket `images`."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from stint.core.codec import decode, encode
from stint.core.errors import UndecodableError
from stint.core.subjects import IMAGES_BUCKET, image_key, images_of, kv_stream, kv_subject
from stint.jetstream import Broker
from stint.jetstream.answers import check, error_code
from stint.jetstream.events import NO_MESSAGE, WRONG_LAST_SEQUENCE
from stint.jetstream.messages import EXPECTED_SEQUENCE, Stored, lifetime, raw_message, sequence_of
from stint.jetstream.views import DELETED

BATCH: Final = 256
"""Records that one read asks for."""

_STREAM: Final = kv_stream(IMAGES_BUCKET)


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

    async def get(self, engine_id: str, image_id: str) -> StoredRecord:
        """What is known of an image."""
        subject = kv_subject(IMAGES_BUCKET, image_key(engine_id, image_id))
        answer = await self._broker.api(f"STREAM.MSG.GET.{_STREAM}", {"last_by_subj": subject})
        if error_code(answer) == NO_MESSAGE:
            return StoredRecord(0, None)
        message = raw_message(check(answer)["message"])
        return StoredRecord(sequence_of(message), _record(message))

    async def put(self, record: ImageRecord, *, revision: int, keep: float) -> bool:
        """Write a record for `keep` seconds, unless it has changed since `revision`. Returns whether it was written."""
        headers = {EXPECTED_SEQUENCE: str(revision), **lifetime(keep)}
        return await self._write(record, encode(record), headers)

    async def delete(self, record: ImageRecord, *, revision: int) -> bool:
        """Delete a record, unless it has changed since `revision`. Returns whether it was deleted."""
        return await self._write(record, b"", {EXPECTED_SEQUENCE: str(revision), **DELETED})

    async def of_engine(self, engine_id: str) -> AsyncIterator[tuple[int, ImageRecord]]:
        """All of an engine's records, with their revisions. What is written meanwhile comes again."""
        sequence, subject = 0, kv_subject(IMAGES_BUCKET, images_of(engine_id))
        while True:
            request = {"seq": sequence + 1, "next_by_subj": subject, "batch": BATCH}
            messages = await self._broker.direct_get(_STREAM, request)
            if not messages:
                return
            for message in messages:
                sequence = sequence_of(message)
                if record := _record(message):
                    yield sequence, record

    async def _write(self, record: ImageRecord, value: bytes, headers: dict[str, str]) -> bool:
        subject = kv_subject(IMAGES_BUCKET, image_key(record.engine_id, record.image_id))
        answer = await self._broker.publish(subject, value, headers)
        if error_code(answer) == WRONG_LAST_SEQUENCE:
            return False
        check(answer)
        return True


def _record(message: Stored) -> ImageRecord | None:
    """None for a deletion, an expired key's marker, and what is no record."""
    try:
        return decode(message.data, ImageRecord)
    except UndecodableError:
        return None
