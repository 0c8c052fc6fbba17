"""The port to sealed payloads."""

from collections.abc import Collection
from typing import Protocol

from stint.ports.history import Place, Stamp


class PayloadStore(Protocol):
    """Sealed payloads, write-once, until the job has ended."""

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        """Store a payload in chunks; returns how many. Repeating the same call is safe.

        `attempt` keeps the chunks of several tries at one job apart.
        """
        ...

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        """The whole payload, as this attempt stored it.

        Raises:
            UndecodableError: a chunk is missing.
        """
        ...

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        """Remove it; with `through` only chunks up to that sequence. Safe to repeat."""
        ...

    async def places(self) -> Collection[Place]:
        """Where there are payloads, whole or not. What is stored or purged meanwhile may lack or be among them."""
        ...

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        """Of the last chunk that was stored here, None if there is none."""
        ...
