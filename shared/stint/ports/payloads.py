"""The sealed payloads, and their copies for reruns."""

from collections.abc import Collection
from typing import Protocol

from stint.ports.places import Place, Stamp


class PayloadStore(Protocol):
    """Sealed payloads, write-once, until the job has ended."""

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        """Store a payload in chunks, apart from those of other attempts; returns their number. Safe to repeat."""

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        """The whole payload that this attempt stored.

        Raises:
            UndecodableError: a chunk is missing.
        """

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        """Remove the payload; with `through` only chunks up to that sequence. Safe to repeat."""

    async def purge_all(self, places: Collection[Place]) -> None:
        """Remove the payloads of these places, which may be many. Safe to repeat."""

    async def places(self) -> Collection[Place]:
        """The places with payloads, complete or not. Changes during the call may or may not be included."""

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        """The stamp of the last chunk at this place, None if there is none."""


class KeptPayloads(Protocol):
    """Sealed payloads that are kept for a time, apart from those that runners read."""

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:
        """Store a copy that expires after so many seconds. `digest` is its SHA-256 in hex. Safe to repeat."""

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        """The copy with this digest and so many bytes.

        Raises:
            UndecodableError: it was not kept, has expired, or is not what its digest says.
        """

    async def purge(self, token: str, job_id: str) -> None:
        """Remove the job's copies. Safe to repeat."""
