"""How a client seals a job, so that only runners can read it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from stint.client.options import Endpoints
from stint.core.submission.payload import JobPayload

if TYPE_CHECKING:
    from stint.vault.client import Vault


class Sealed(msgspec.Struct, frozen=True):
    """A job that only runners can open, and that can be submitted once. Its repr shows nothing of it."""

    queue: str
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return "Sealed(…)"


class Sealer(Protocol):
    """What a client asks of Vault. Each method may raise VaultError."""

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:
        """Seal a job for the runners; returns the fields of the submission that carry it."""

    async def wrap(self, *, wrap_ttl: str) -> str:
        """Request what a runner needs to open one job, wrapped."""


class SealedByVault:
    """Seals jobs with Vault, as `stint.client.submitting.submission` says."""

    def __init__(self, where: Endpoints) -> None:
        self._where = where

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:
        """See `stint.client.submitting.submission.seal`."""
        # hvac takes 0.2 s to import: whoever only reads must not wait for it.
        from stint.client.submitting.submission import seal  # noqa: PLC0415

        async with self._vault() as vault:
            return await seal(vault, self._where.token, job, role=self._where.role, wrap_ttl=wrap_ttl)

    async def wrap(self, *, wrap_ttl: str) -> str:
        """See `stint.client.submitting.submission.wrapped_secret_id`."""
        from stint.client.submitting.submission import wrapped_secret_id  # noqa: PLC0415 - as above

        async with self._vault() as vault:
            return await wrapped_secret_id(vault, self._where.token, role=self._where.role, wrap_ttl=wrap_ttl)

    @asynccontextmanager
    async def _vault(self) -> AsyncIterator["Vault"]:
        from stint.client.submitting.submission import needs  # noqa: PLC0415 - as above
        from stint.vault.client import Vault  # noqa: PLC0415
        from stint.vault.policies import CLIENT, SEALER  # noqa: PLC0415

        async with Vault(self._where.vault_addr, cacert=self._where.vault_cacert) as vault:
            with needs(CLIENT, SEALER):
                yield vault
