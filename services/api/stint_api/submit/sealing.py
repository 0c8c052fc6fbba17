"""How a job comes to be sealed: by its client, through a cubbyhole or in the request, or here."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from msgspec.structs import replace

from stint.core.codec import encode
from stint.core.errors import TooLargeError, UndecodableError, VaultError, VaultRefusedError, VaultUnavailableError
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import JobPayload
from stint.vault import Encryptor, Vault, check_path, error_text
from stint_api.errors import RefusalError
from stint_api.submit.body import Envelope, Sealed, Submission, check_content, check_sealed

LARGE: Final = 1024 * 1024
"""Bytes of a request from which on its job is large."""
LARGE_AT_A_TIME: Final = 1
"""While the largest one is sealed, the API holds it about ten times over."""


class CubbyholeError(RefusalError):
    """The cubbyhole gives no payload: somebody else has read it, or there never was one."""

    def __init__(self, why: str) -> None:
        alert = "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: "
        super().__init__(HTTPStatus.INTERNAL_SERVER_ERROR, alert + why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Gets or makes the sealed payload of a submission.

    Attributes:
        compat: job fields beside a sealed payload count, as GoStint has it: they are sealed too, as a second line.
        large: lets few of the large ones be sealed at a time.
    """

    vault: Vault
    payloads: Encryptor
    compat: bool = False
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_A_TIME))

    async def seal(self, submission: Submission) -> Sealed:
        """The payload of a submission that brings it along, or whose own fields are the job."""
        if submission.sealed:
            return await submission.sealed()
        if submission.envelope.payload:
            return Sealed(check_sealed(submission.envelope.payload) + await self.own_fields(submission))
        job = replace(submission.job, qname=submission.qname)
        return Sealed(await self._encrypt(job, submission.size), container_image=job.container_image, tty=job.tty)

    async def own_fields(self, submission: Submission) -> bytes:
        """The request's own job fields as a second line, where they count. `on_lost` stands in the fact."""
        job = replace(submission.job, qname=submission.qname)
        if not self.compat or replace(job, qname="", on_lost="") == JobPayload():
            return b""
        return b"\n" + await self._encrypt(job, submission.size)

    async def read_cubbyhole(self, envelope: Envelope) -> str:
        """What lies in a cubbyhole as the payload, whatever it is. Spends a use of the cubbyhole's token.

        Raises:
            UndecodableError: `cubby_path` is not a path.
            CubbyholeError: it could not be read.
            VaultUnavailableError: Vault did not answer: it may have been read, or not.
        """
        try:
            path = check_path(envelope.cubby_path)
        except VaultRefusedError:
            raise UndecodableError("The cubby_path is not a Vault path.") from None
        try:
            found = await self.vault.read(envelope.cubby_token, path)
        except VaultUnavailableError:
            raise
        except VaultError as error:
            raise CubbyholeError(error_text(error)) from None
        payload = found.data.get("payload") if found and found.data else None
        if not isinstance(payload, str):
            raise CubbyholeError(f"no payload at {path}")
        return payload

    async def _encrypt(self, job: JobPayload, size: int) -> bytes:
        check_content(job.content)
        check_limits(job)
        async with self.large if size > LARGE else nullcontext():
            plain = encode(job)
            try:
                sealed = await self.payloads.encrypt(plain)
            except VaultRefusedError as error:
                if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise TooLargeError("The job is larger than Vault takes.") from None
                raise
        return sealed.encode()
