"""Tickets: what the bus key opens, and what it must not open."""

import asyncio
import contextlib
from dataclasses import dataclass

from stint.core.codec import decode
from stint.core.errors import StintError, UndecodableError
from stint.vault import Ticket, Vault, open_ticket
from tests.fuzz.target import MARK, Target, refused_well


@dataclass(frozen=True)
class Bus:
    """A Vault that opens tickets, and a ticket of the job JOB in the queue QUEUE."""

    runner: asyncio.Runner
    vault: Vault
    token: str
    sealed: str


QUEUE, JOB = "me", "0123456789ab0123456789ab"
REAL = Ticket(wrap_secret_id="token", payload_sha256="00")


def check(data: bytes, bus: Bus) -> None:
    """What can be opened is the real ticket, for which `@` in a case stands."""
    with contextlib.suppress(UndecodableError):
        ticket = decode(data, Ticket)
        assert MARK not in repr(ticket)
    text = data.decode("utf-8", "replace").replace("@", bus.sealed)
    opened: Ticket | None = None
    with refused_well(StintError):
        opened = bus.runner.run(open_ticket(bus.vault, bus.token, text, queue_token=QUEUE, job_id=JOB))
    # Vault's base64 ignores line ends and the last bits, so another text can be the same ticket.
    assert opened in ({REAL} if text == bus.sealed else {None, REAL})


WORDS = [b"@", b"vault:v1:", b"vault:v2:", b":", b"A", b"==", b"\0"]
TARGET = Target(name="tickets", check=check, words=WORDS, fixture="bus", brief=25)
