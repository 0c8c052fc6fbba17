"""Payloads in memory, and their copies."""

import hashlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from stint.core.errors import UndecodableError
from stint.core.names.subjects import payload_subject
from stint.ports import Place, Stamp

_CHUNK_BYTES: Final = 512 * 1024


class MemoryPayloads:
    """See `stint.ports.PayloadStore`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._stored: dict[str, tuple[Stamp, bytes]] = {}
        self._sequence = 0
        self._now = now

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        starts = range(0, len(sealed), _CHUNK_BYTES)
        for number, start in enumerate(starts):
            subject = payload_subject(token, job_id, number, attempt)
            if subject not in self._stored:
                self._sequence += 1
                chunk = sealed[start : start + _CHUNK_BYTES]
                self._stored[subject] = Stamp(self._sequence, self._now()), chunk
        return len(starts)

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        wanted = [payload_subject(token, job_id, number, attempt) for number in range(chunks)]
        found = [self._stored[subject][1] for subject in wanted if subject in self._stored]
        if len(found) < chunks:
            raise UndecodableError(f"The payload has {len(found)} of its {chunks} chunks.")
        return b"".join(found)

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        for subject, stamp in self._mine(token, job_id).items():
            if through is None or stamp.sequence <= through:
                del self._stored[subject]

    async def purge_all(self, places: Collection[Place]) -> None:
        for place in places:
            await self.purge(*place)

    async def places(self) -> set[Place]:
        return {Place(*subject.split(".")[1:3]) for subject in self._stored}

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        return max(self._mine(token, job_id).values(), default=None)

    def _mine(self, token: str, job_id: str) -> dict[str, Stamp]:
        prefix = payload_subject(token, job_id, "")
        return {subject: stamp for subject, (stamp, _) in self._stored.items() if subject.startswith(prefix)}


class MemoryKept:
    """See `stint.ports.KeptPayloads`. They expire when they are told to."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], bytes] = {}

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:  # noqa: ARG002 - see above
        self._kept[token, job_id, digest] = sealed

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        found = self._kept.get((token, job_id, digest), b"")
        if len(found) != size or hashlib.sha256(found).hexdigest() != digest:
            raise UndecodableError("The payload is not kept.")
        return found

    async def purge(self, token: str, job_id: str) -> None:
        for key in [key for key in self._kept if key[:2] == (token, job_id)]:
            del self._kept[key]
