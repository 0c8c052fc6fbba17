"""The ticket: what opens a job, sealed so that it never stands in the clear on the bus.

Vault ties it to the queue and the job by its associated data: moved to another job, it does not open.
"""

from typing import Any, Final

import msgspec

from stint.core.codec import decode, encode
from stint.vault.client import Vault

BUS_KEY: Final = "stint-bus"
"""The transit key of the tickets. Whoever submits may seal with it, only runners may open."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a job.

    Attributes:
        wrap_secret_id: the wrapping token of the jobs' AppRole's secret id.
        payload_sha256: hex digest of the sealed payload, which binds it to this ticket.
        wrap_expires_at: RFC 3339, "" where it is not known.
    """

    wrap_secret_id: str
    payload_sha256: str
    wrap_expires_at: str = ""

    def __repr__(self) -> str:
        return f"Ticket(payload_sha256={self.payload_sha256!r}, wrap_expires_at={self.wrap_expires_at!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich shows, in place of msgspec's own, which shows every field."""
        return [("payload_sha256", self.payload_sha256), ("wrap_expires_at", self.wrap_expires_at)]


async def seal_ticket(vault: Vault, token: str, ticket: Ticket, *, queue_token: str, job_id: str) -> str:
    """The ticket as `submitted` carries it, for this queue and job only."""
    return await vault.encrypt(token, BUS_KEY, encode(ticket), associated_data=_binding(queue_token, job_id))


async def open_ticket(vault: Vault, token: str, sealed: str, *, queue_token: str, job_id: str) -> Ticket:
    """Open a ticket.

    Raises:
        VaultRefusedError: it was not sealed, or for another queue or job.
        UndecodableError: sealed, but not a ticket.
    """
    opened = await vault.decrypt(token, BUS_KEY, sealed, associated_data=_binding(queue_token, job_id))
    return decode(opened, Ticket)


def _binding(queue_token: str, job_id: str) -> bytes:
    return f"stint1.{queue_token}.{job_id}".encode()
