"""Copies of sealed payloads, so that jobs can be run again after their end."""

from typing import Protocol


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
