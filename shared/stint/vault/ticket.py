"""The ticket: what a runner needs to open a job, encrypted so that the bus never contains it in the clear.

Its associated data binds it to the queue and the job: moved to another job, it cannot be decrypted.
"""

from typing import Any, Final

import msgspec

from stint.core.codec import decode, encode
from stint.core.view import parse_time
from stint.vault.client import Vault

BUS_KEY: Final = "stint-bus"  # the transit key of the tickets. Submitters may encrypt with it; only runners may decrypt


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner needs to open a job. Raises ValueError if `wrap_expires_at` is no such time."""

    wrap_secret_id: str  # the wrapping token of a secret id of the jobs' AppRole
    payload_sha256: str  # hex digest of the sealed payload, which binds the payload to this ticket
    wrap_expires_at: str = ""  # when the wrapping token expires, RFC 3339; "" if it is not known

    def __post_init__(self) -> None:
        if self.wrap_expires_at:
            parse_time(self.wrap_expires_at)

    def __repr__(self) -> str:
        return f"Ticket(payload_sha256={self.payload_sha256!r}, wrap_expires_at={self.wrap_expires_at!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich shows instead of msgspec's own representation, which contains every field."""
        return [("payload_sha256", self.payload_sha256), ("wrap_expires_at", self.wrap_expires_at)]


async def seal_ticket(vault: Vault, token: str, ticket: Ticket, *, queue_token: str, job_id: str) -> str:
    """Seal a ticket for this queue and job."""
    return await vault.encrypt(token, BUS_KEY, encode(ticket), associated_data=binding(queue_token, job_id))


async def open_ticket(vault: Vault, token: str, sealed: str, *, queue_token: str, job_id: str) -> Ticket:
    """Open a ticket. Raises VaultRefusedError if it is not this job's and queue's, UndecodableError if it is none."""
    opened = await vault.decrypt(token, BUS_KEY, sealed, associated_data=binding(queue_token, job_id))
    return decode(opened, Ticket)


def binding(queue_token: str, job_id: str) -> bytes:
    """The associated data of a job's ticket."""
    return f"stint1.{queue_token}.{job_id}".encode()
