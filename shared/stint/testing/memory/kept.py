"""Kept payloads in memory."""

from stint.core.errors import UndecodableError


class MemoryKept:
    """See `stint.ports.KeptPayloads`. They expire when they are told to."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], bytes] = {}

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:  # noqa: ARG002 - see above
        self._kept[token, job_id, digest] = sealed

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        found = self._kept.get((token, job_id, digest), b"")
        if not found or len(found) != size:
            raise UndecodableError("The payload is not kept.")
        return found

    async def purge(self, token: str, job_id: str) -> None:
        for key in [key for key in self._kept if key[:2] == (token, job_id)]:
            del self._kept[key]
