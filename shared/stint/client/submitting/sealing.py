"""How a client seals a job, so that only runners can read it."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from stint.client.options import Endpoints
from stint.core.submission.payload import JobPayload


class Sealed(msgspec.Struct, frozen=True):
    """A job that only runners can open, and that can be submitted once. Its repr shows nothing of it."""

    queue: str
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return "Sealed(…)"


class Sealer(Protocol):
    """What a client asks of Vault. Each method may raise VaultError, or ConfigError if `wrap_ttl` is none."""

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:
        """Seal a job for the runners; returns the fields of the submission that carry it."""

    async def wrap(self, *, wrap_ttl: str) -> str:
        """Request what a runner needs to open one job, wrapped."""


class SealedByVault:
    """Seals jobs with Vault, as `submission` says. Its import takes 0.2 s, for which who only reads must not wait."""

    def __init__(self, where: Endpoints) -> None:
        self._where = where

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:
        """See `submission.seal`."""
        from stint.client.submitting import submission  # noqa: PLC0415 - see above

        async with submission.vault_at(self._where) as vault:
            return await submission.seal(vault, self._where.token, job, role=self._where.role, wrap_ttl=wrap_ttl)

    async def wrap(self, *, wrap_ttl: str) -> str:
        """See `submission.wrapped_secret_id`."""
        from stint.client.submitting import submission  # noqa: PLC0415 - see above

        async with submission.vault_at(self._where) as vault:
            role = self._where.role
            return await submission.wrapped_secret_id(vault, self._where.token, role=role, wrap_ttl=wrap_ttl)
