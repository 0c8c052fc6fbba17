"""How much each publisher sends. NATS limits nobody's rate, and all queues share one stream."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

SHARE: Final = 64 * 1024  # bytes that count as much as one message more
BURST: Final = 4.0  # seconds' worth of messages that an owner may have sent besides its rate. After a stall, many come
WRITTEN: Final = 0.5
"""The share of the rate that all publishers together must have had stored, so that one of them can be kept out. NATS
counts reads like writes, and reads delay nobody."""
READS: Final = 10_000.0
"""Messages a second that an owner may send although nothing of them is stored. A reader that makes 32 requests at a
time sends 6000. More keep NATS and the APIs busy, be they requests for output or writes that a stream refuses."""
LOOKS: Final = 8
"""Looks over which what is stored is averaged: `BURST` seconds. One large payload makes no reader a sender."""
KEPT_OUT: Final = 60.0  # seconds for which an owner that has sent more is kept out
MISSED: Final = 2  # lists without a connection after which it is forgotten: it may be told later that it was closed
SILENT: Final = 10  # looks without a list of a server after which the server is forgotten


class Sent(msgspec.Struct, frozen=True):
    """What a connection has sent so far, as a server tells it."""

    messages: int = msgspec.field(default=0, name="msgs")
    octets: int = msgspec.field(default=0, name="bytes")

    @property
    def cost(self) -> float:
        """In messages."""
        return self.messages + self.octets / SHARE


class Stored:
    """How fast the streams of publishers grow."""

    def __init__(self) -> None:
        self._states: Sequence[Sent] = ()
        self._grown: deque[tuple[float, float]] = deque(maxlen=LOOKS + 1)

    def look(self, at: float, states: Sequence[Sent]) -> float:
        """What they have stored a second lately, in messages; infinite if that is not known yet.

        `states` is, for each stream at this time, its last sequence and the bytes in it. A purge takes some of these,
        and what was stored in the same look is then not seen.
        """
        grown = self._grown[-1][1] if self._grown else 0.0
        for old, new in zip(self._states, states, strict=False):
            grown += Sent(max(0, new.messages - old.messages), max(0, new.octets - old.octets)).cost
        self._states = states
        self._grown.append((at, grown))
        begun, before = self._grown[0]
        return (grown - before) / (at - begun) if at > begun else math.inf


class Listed(NamedTuple):
    """A connection in a server's list."""

    owner: str  # whose it is; "" if it does not seem to be a publisher's. A client can change that by another login
    sent: Sent


@dataclass
class _Connection:
    """What is known of a connection."""

    owner: str  # whose it was at its first login
    counted: float  # what has been counted, in messages
    missed: int = 0  # in how many lists it has not been


@dataclass
class _Server:
    """What is known of a server."""

    listed_at: float  # when it has made its last list, in Unix seconds by its own clock
    connections: dict[int, _Connection]  # those of publishers, by their numbers
    silent: int = 0  # looks since then


class _Buckets:
    """A leaky bucket for each owner."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._full = per_second * BURST
        self._levels: defaultdict[str, float] = defaultdict(float)

    def add(self, owner: str, cost: float) -> None:
        self._levels[owner] += cost

    def leak(self, seconds: float) -> None:
        leaked = max(0, seconds) * self._per_second
        levels = {owner: level - leaked for owner, level in self._levels.items() if level > leaked}
        self._levels = defaultdict(float, levels)

    def over(self) -> set[str]:
        """The owners whose buckets run over."""
        return {owner for owner, level in self._levels.items() if level > self._full}

    def forgive(self) -> None:
        """Let no bucket be more than full."""
        self._levels.update(dict.fromkeys(self.over(), self._full))

    def empty(self, owner: str) -> None:
        self._levels.pop(owner, None)


class Rates:
    """Whose bucket runs over is kept out for a while. There is one for writers, and a larger one for all.

    All connections of an owner count together. Buckets leak by the time between two lists as their server saw it, so
    that nothing depends on when a list arrives.
    """

    def __init__(self, per_second: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`per_second` is how many messages an owner may send all the time."""
        self._per_second = per_second
        self._monotonic = monotonic
        self._writers, self._all = _Buckets(per_second), _Buckets(max(per_second, READS))
        self._servers: dict[str, _Server] = {}
        self._until: dict[str, float] = {}

    def opened(self, server: str, number: int, owner: str) -> None:
        """The owner has logged in with a connection that has this number at its server."""
        if server in self._servers:
            self._servers[server].connections.setdefault(number, _Connection(owner, 0))

    def closed(self, server: str, number: int, sent: Sent) -> None:
        """Count what a connection had sent that is closed now. A list that was made before may still contain it."""
        if server in self._servers and (found := self._servers[server].connections.get(number)):
            self._count(found, sent)
            found.missed = MISSED

    def listed(self, server: str, at: float, connections: Mapping[int, Listed]) -> list[int]:
        """Count what the connections of a server have sent since its last list; returns which of them must be closed.

        All that are open at this time are given. Of a server that is new here nothing is counted yet: nobody knows when
        its connections have sent it.
        """
        known = self._servers.get(server)
        if known is None:
            first = {number: _Connection(one.owner, one.sent.cost) for number, one in connections.items() if one.owner}
            known = self._servers[server] = _Server(at, first)
        for number, one in connections.items():
            if one.owner:
                self.opened(server, number, one.owner)
            if found := known.connections.get(number):
                self._count(found, one.sent)
        for number in known.connections.keys() - connections.keys():
            known.connections[number].missed += 1
        known.connections = {number: found for number, found in known.connections.items() if found.missed <= MISSED}
        for buckets in (self._writers, self._all):
            buckets.leak((at - known.listed_at) / len(self._servers))
        known.listed_at, known.silent = at, 0
        return [number for number, one in known.connections.items() if self.keeps_out(one.owner)]

    def judge(self, stored: float) -> list[str]:
        """The owners that have sent too much, and are kept out from now on. To be called after each look.

        `stored` is how many messages a second their streams have stored lately: little excuses all but floods of reads.
        """
        for server in self._servers.values():
            server.silent += 1
        self._servers = {name: server for name, server in self._servers.items() if server.silent <= SILENT}
        now = self._monotonic()
        over = self._all.over()
        if stored >= self._per_second * WRITTEN:
            over |= self._writers.over()
        self._writers.forgive()
        found = [owner for owner in over if not self.keeps_out(owner)]
        self._until = {owner: end for owner, end in self._until.items() if end > now}
        for owner in over:
            self._until[owner] = now + KEPT_OUT
            self._writers.empty(owner)
            self._all.empty(owner)
        return found

    def keeps_out(self, owner: str) -> bool:
        """Whether the owner has sent too much lately."""
        return self._until.get(owner, -math.inf) > self._monotonic()

    def _count(self, connection: _Connection, sent: Sent) -> None:
        cost = max(0, sent.cost - connection.counted)
        self._writers.add(connection.owner, cost)
        self._all.add(connection.owner, cost)
        connection.counted = max(connection.counted, sent.cost)
