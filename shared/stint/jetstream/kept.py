"""The copies of sealed payloads in the stream KEPT."""

import hashlib
from typing import Final

from stint.core.errors import UndecodableError
from stint.core.names.streams import KEPT
from stint.core.names.subjects import kept_subject
from stint.jetstream.payloads import CHUNK_BYTES, MAX_CHUNKS
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import ErrorCode, check, error_code, lifetime

_THERE: Final = frozenset({ErrorCode.SUBJECT_TAKEN, ErrorCode.WRONG_LAST_SEQUENCE})
"""By an earlier attempt with the same bytes: their digest is in the subject, and is checked on reading."""


class JetStreamKept:
    """See `stint.ports.KeptPayloads`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._kept = Stream(broker, KEPT)

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:
        for number, start in enumerate(range(0, len(sealed), CHUNK_BYTES)):
            subject = kept_subject(token, job_id, digest, number)
            answer = await self._broker.publish(subject, sealed[start : start + CHUNK_BYTES], lifetime(seconds))
            if error_code(answer) not in _THERE:
                check(answer)

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        chunks = -(-size // CHUNK_BYTES)
        found = bytearray()
        for number in range(min(chunks, MAX_CHUNKS)):
            message = await self._kept.last(kept_subject(token, job_id, digest, number))
            if message is None:
                break
            found += message.data
        if len(found) != size or hashlib.sha256(found).hexdigest() != digest:
            raise UndecodableError("The payload is not kept.")
        return bytes(found)

    async def purge(self, token: str, job_id: str) -> None:
        await self._kept.purge(kept_subject(token, job_id, "*", "*"))
