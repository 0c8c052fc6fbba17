"""How much each publisher sends. NATS limits nobody's rate, and all queues share one stream."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

SHARE: Final = 64 * 1024
"""Bytes that count as much as one message more."""
BURST: Final = 1.0
"""Seconds' worth of messages that an owner may have sent at once, besides what its rate allows meanwhile."""
KEPT_OUT: Final = 60.0
"""Seconds for which an owner that has sent more is kept out."""


class Sender(NamedTuple):
    """A connection, and what it has sent so far.

    Attributes:
        server: the id of its server, which numbers its connections.
        user: the name of its user, as `claims.allowed` has made it.
        octets: of the messages.
    """

    server: str
    number: int
    user: str
    messages: int
    octets: int

    @property
    def owner(self) -> str:
        """Whose it is. All connections of an owner count together."""
        return self.user.rpartition(" ")[2]

    @property
    def sent(self) -> float:
        """In messages."""
        return self.messages + self.octets / SHARE


class Rates:
    """A leaky bucket for each owner. Whose bucket runs over is kept out for a while."""

    def __init__(self, per_second: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`per_second` is how many messages an owner may send all the time."""
        self._per_second = per_second
        self._monotonic = monotonic
        self._leaked_at = monotonic()
        self._levels: defaultdict[str, float] = defaultdict(float)
        self._counted: dict[str, dict[int, float]] = {}
        self._until: dict[str, float] = {}

    def listed(self, server: str, senders: Iterable[Sender]) -> None:
        """Count what the connections of a server, all that are open, have sent since they were last counted.

        Of a server that is new here nothing is counted yet: nobody knows when its connections have sent it.
        """
        senders = [*senders]
        if server in self._counted:
            for sender in senders:
                self._count(sender)
        self._counted[server] = {sender.number: sender.sent for sender in senders}

    def closed(self, sender: Sender) -> None:
        """Count what a connection has sent that is closed now. A list made just before may still contain it."""
        if sender.server in self._counted:
            self._count(sender)
            self._counted[sender.server][sender.number] = math.inf

    def judge(self) -> list[str]:
        """The owners that have sent too much, and are kept out from now on."""
        now = self._monotonic()
        leaked, self._leaked_at = (now - self._leaked_at) * self._per_second, now
        levels = {owner: level - leaked for owner, level in self._levels.items()}
        over = [owner for owner, level in levels.items() if level > self._per_second * BURST]
        self._levels.clear()
        self._levels.update((owner, level) for owner, level in levels.items() if level > 0 and owner not in over)
        found = [owner for owner in over if not self.keeps_out(owner)]
        self._until = {owner: end for owner, end in self._until.items() if end > now} | dict.fromkeys(
            over, now + KEPT_OUT
        )
        return found

    def keeps_out(self, owner: str) -> bool:
        """Whether the owner has sent too much lately."""
        return self._until.get(owner, -math.inf) > self._monotonic()

    def _count(self, sender: Sender) -> None:
        before = self._counted[sender.server].get(sender.number, 0)
        self._levels[sender.owner] += max(0, sender.sent - before)
