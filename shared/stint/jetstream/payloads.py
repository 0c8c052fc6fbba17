"""Sealed payloads in the PAYLOADS stream."""

from typing import Final

from stint.errors import UndecodableError
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker
from stint.jetstream.eventlog import SUBJECT_TAKEN, WRONG_LAST_SEQUENCE
from stint.jetstream.messages import sequence_of
from stint.subjects import PAYLOADS, payload_subject

CHUNK_BYTES: Final = 512 * 1024
"""A chunk's size: half of what a NATS server takes by default."""
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes that one read asks for."""


class JetStreamPayloads:
    """See `stint.eventlog.PayloadStore`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(self, token: str, job_id: str, sealed: bytes) -> int:
        chunks = [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
        for number, chunk in enumerate(chunks):
            answer = await self._broker.publish(payload_subject(token, job_id, number), chunk)
            # Taken: by an earlier try of this very job. If by anybody else, the payload will not match its ticket.
            if error_code(answer) not in {SUBJECT_TAKEN, WRONG_LAST_SEQUENCE}:
                check(answer)
        return len(chunks)

    async def get(self, token: str, job_id: str, chunks: int) -> bytes:
        parts: list[bytes] = []
        sequence = 1
        while len(parts) < chunks:
            messages = await self._broker.direct_get(
                PAYLOADS,
                {
                    "seq": sequence,
                    "next_by_subj": payload_subject(token, job_id, "*"),
                    "batch": chunks - len(parts),
                    "max_bytes": BATCH_BYTES,
                },
            )
            if not messages:
                raise UndecodableError(f"The payload has {len(parts)} of its {chunks} chunks.")
            parts += [message.data for message in messages]
            sequence = sequence_of(messages[-1]) + 1
        return b"".join(parts)

    async def purge(self, token: str, job_id: str) -> None:
        subject = payload_subject(token, job_id, "*")
        check(await self._broker.api(f"STREAM.PURGE.{PAYLOADS}", {"filter": subject}))
