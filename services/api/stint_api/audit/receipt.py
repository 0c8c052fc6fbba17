"""Receipts of jobs that are over, signed by Vault."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from stint.core.audit.receipt import KeyName, canonical, check_over, document, statement
from stint.core.errors import VaultDeniedError, VaultNotFoundError, VaultRefusedError
from stint.core.events import Submitted, Writer
from stint.core.job import Job
from stint.core.names.subjects import EventAddress
from stint.core.view import rfc3339
from stint.jetstream import JetStreamSignatures
from stint.vault import Signer
from stint_api.auth import Identity
from stint_api.errors import RefusalError
from stint_api.read.commands import Jobs

NO_KEY: Final = (
    "Vault does not let the API sign receipts. `stint vault-setup --update` makes the key, and gives the right to it."
)
_NO_KEY: Final = (VaultDeniedError, VaultNotFoundError, VaultRefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """Signs receipts. `now` is aware, in UTC; `signatures` is None where NATS has no accounts."""

    jobs: Jobs
    signer: Signer
    signatures: JetStreamSignatures | None
    now: Callable[[], datetime]

    async def of(self, identity: Identity, job_id: str) -> bytes:
        """The receipt of a job, as a file.

        Raises RefusalError if there is no such job, the caller may not read it, or Vault does not let the API sign;
        BrokerUnavailableError if NATS does not answer; IllegalCommandError if the job is not over.
        """
        job = await self.jobs.find(identity, job_id)
        check_over(job)
        try:
            version, public = list((await self.signer.public_keys()).items())[-1]
            key = KeyName.of(self.signer.key, version, public)
            stated = statement(job, key, rfc3339(self.now()), await self._submitter(job))
            return document(stated, await self.signer.sign(canonical(stated), version))
        except _NO_KEY:
            raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, NO_KEY) from None

    async def _submitter(self, job: Job) -> Writer | None:
        record = job.facts[Submitted.kind]
        place = EventAddress(record.kind, record.token, record.job_id)
        if self.signatures is None or not record.signer:
            return None
        signed = (await self.signatures.read([place])).get(place)
        return signed.by if signed and signed.sequence == record.sequence else None

    async def public_keys(self) -> dict[str, str]:
        """The public keys by version, in base64. Raises RefusalError if there is no key."""
        try:
            keys = await self.signer.public_keys()
        except _NO_KEY:
            raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, NO_KEY) from None
        return {str(version): base64.b64encode(public).decode() for version, public in keys.items()}
