"""Sees that NATS lets in the clients whose logins are accepted here."""

import time
from collections.abc import Callable
from typing import Final

WITHIN: Final = 5.0
"""Seconds in which NATS tells of a client that it has let in."""
ENOUGH: Final = 3
"""Clients, one after the other, of which NATS tells nothing. A client may also leave while its login is decided."""
NOT_LET_IN: Final = (
    "NATS does not tell that it lets in the clients whose logins are accepted: STINT_NATS_AUTH_ISSUER is not the key "
    "in its configuration, --system-account did not name its system account, the publishers' account has all the "
    "connections that it may have, or the answers come too late. NATS' log says which."
)


class Admissions:
    """NATS refuses answers that another issuer than its own has signed, and tells that to nobody but its log."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._expected: dict[tuple[str, int], float] = {}
        self._absent = 0

    def expect(self, server: str, connection: int) -> None:
        """A login was accepted on this connection of a server."""
        self._expected[server, connection] = self._monotonic() + WITHIN

    def told(self, server: str, connection: int) -> None:
        """The server tells that it has let in a client, whoever accepted its login."""
        if (server, connection) in self._expected:
            self._expected, self._absent = {}, 0  # what became of others before says nothing any more

    def missing(self) -> str:
        """A sentence if NATS seems to let in none of them, otherwise ""."""
        now = self._monotonic()
        self._absent += sum(end <= now for end in self._expected.values())
        self._expected = {client: end for client, end in self._expected.items() if end > now}
        return NOT_LET_IN if self._absent >= ENOUGH else ""

    def forget(self) -> None:
        """NATS tells nothing of clients at all."""
        self._expected, self._absent = {}, 0
