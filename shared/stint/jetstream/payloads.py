"""Sealed payloads in the PAYLOADS stream."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from stint.core.errors import UndecodableError
from stint.core.subjects import PAYLOADS, payload_subject
from stint.core.view import parse_time
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker, NoAnswerError
from stint.jetstream.elections import ANSWER, across_elections
from stint.jetstream.events import NO_MESSAGE, SUBJECT_TAKEN, WRONG_LAST_SEQUENCE
from stint.jetstream.messages import sequence_of, subject_of
from stint.jetstream.subject_lists import places_held
from stint.ports import Place, Stamp

CHUNK_BYTES: Final = 512 * 1024
"""A chunk's size: half of what a NATS server takes by default."""
MAX_CHUNKS: Final = 128
"""Of a payload: 64 MiB, twice what Vault takes."""
BATCH: Final = 64
"""Chunks that one read asks for."""
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes that one read asks for."""


class JetStreamPayloads:
    """See `stint.ports.PayloadStore`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        chunks = [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
        for number, chunk in enumerate(chunks):
            write = partial(self._put_chunk, payload_subject(token, job_id, number, attempt), chunk)
            await across_elections(self._broker, write)
        return len(chunks)

    async def _put_chunk(self, subject: str, chunk: bytes) -> None:
        answer = await self._broker.publish(subject, chunk, None, ANSWER)
        # Taken: by an earlier try of this very job. If by anybody else, the payload will not match its ticket.
        if error_code(answer) not in {SUBJECT_TAKEN, WRONG_LAST_SEQUENCE}:
            check(answer)
        elif await self._last(subject) is None:  # on its way through the replicas, and may get lost there
            raise NoAnswerError

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        if chunks > MAX_CHUNKS:
            raise UndecodableError(f"A payload has at most {MAX_CHUNKS} chunks.")
        wanted = [payload_subject(token, job_id, number, attempt) for number in range(chunks)]
        parts: dict[str, bytes] = {}
        sequence = 1
        while len(parts) < chunks:
            request = {"seq": sequence, "next_by_subj": payload_subject(token, job_id, "*")}
            messages = await self._broker.direct_get(PAYLOADS, request | {"batch": BATCH, "max_bytes": BATCH_BYTES})
            if not messages:
                raise UndecodableError(f"The payload has {len(parts)} of its {chunks} chunks.")
            parts |= {subject: message.data for message in messages if (subject := subject_of(message)) in wanted}
            sequence = sequence_of(messages[-1]) + 1
        return b"".join(parts[subject] for subject in wanted)

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        request: dict[str, object] = {"filter": payload_subject(token, job_id, "*")}
        if through is not None:
            request["seq"] = through + 1
        check(await self._broker.api(f"STREAM.PURGE.{PAYLOADS}", request))

    async def places(self) -> set[Place]:
        return await places_held(self._broker, PAYLOADS, payload_subject("*", "*", "*"))

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        message = await self._last(payload_subject(token, job_id, "*"))
        return None if message is None else Stamp(message["seq"], parse_time(message["time"]))

    async def _last(self, subject: str) -> Mapping[str, Any] | None:
        """As the leader knows it."""
        answer = await self._broker.api(f"STREAM.MSG.GET.{PAYLOADS}", {"last_by_subj": subject}, ANSWER)
        if error_code(answer) == NO_MESSAGE:
            return None
        message: Mapping[str, Any] = check(answer)["message"]
        return message
