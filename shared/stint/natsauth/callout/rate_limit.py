"""Disconnects publishers that send too much, by what NATS tells its system account about connections."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError
from stint.core.names.subjects import CONNECTIONS, DISCONNECTED, disconnect_subject
from stint.jetstream import Broker
from stint.natsauth.callout.rates import KEPT_OUT, Rates, Sender
from stint.natsauth.roles import PUBLISHERS_ACCOUNT

log = structlog.get_logger()

INTERVAL: Final = 0.5
"""Seconds between two looks at what the connections have sent."""
_ALL: Final = msgspec.json.encode({"auth": True, "limit": 100_000})


class _Server(msgspec.Struct):
    id: str


class _Connection(msgspec.Struct):
    cid: int
    in_msgs: int
    in_bytes: int
    account: str = ""
    authorized_user: str = ""


class _Connections(msgspec.Struct):
    connections: list[_Connection]


class _List(msgspec.Struct):
    """A server's answer about its connections."""

    server: _Server
    data: _Connections

    def senders(self) -> Iterator[Sender]:
        """The connections of publishers."""
        for found in self.data.connections:
            if found.account.startswith(PUBLISHERS_ACCOUNT):
                yield Sender(self.server.id, found.cid, found.authorized_user, found.in_msgs, found.in_bytes)


class _Client(msgspec.Struct):
    id: int
    acc: str = ""
    user: str = ""


class _Sent(msgspec.Struct):
    msgs: int = 0
    bytes: int = 0


class _Closed(msgspec.Struct):
    """What a server tells when a connection is closed."""

    server: _Server
    client: _Client
    received: _Sent

    def senders(self) -> Iterator[Sender]:
        """The connection, if it is a publisher's."""
        if self.client.acc.startswith(PUBLISHERS_ACCOUNT):
            sent = self.received
            yield Sender(self.server.id, self.client.id, self.client.user, sent.msgs, sent.bytes)


class RateLimit:
    """Asks for what publishers send, and closes the connections of those that are kept out."""

    def __init__(self, broker: Broker, rates: Rates) -> None:
        self._broker = broker
        self._rates = rates
        self._heard = True

    async def run(self) -> None:
        """Look until cancelled."""
        inbox = self._broker.client.new_inbox()
        async with (
            self._broker.subscribe(DISCONNECTED, cb=self._on_disconnected),
            self._broker.subscribe(inbox, cb=self._on_list),
        ):
            while True:
                await self._look(inbox)

    async def _look(self, inbox: str) -> None:
        await self._broker.wait_connected()
        asked, self._heard = self._heard, False
        with suppress(BrokerUnavailableError):
            await self._broker.send(CONNECTIONS, _ALL, reply=inbox)
        await asyncio.sleep(INTERVAL)
        if asked and not self._heard:
            log.warning("publishers' rates are not limited: NATS does not list its connections")
        for owner in self._rates.judge():
            log.warning("a publisher sends too much and is kept out", owner=owner, seconds=KEPT_OUT)

    async def _on_list(self, message: Msg) -> None:
        if message.data:
            found = msgspec.json.decode(message.data, type=_List)
            self._heard, senders = True, [*found.senders()]
            self._rates.listed(found.server.id, senders)
            for sender in senders:
                await self._check(sender)

    async def _on_disconnected(self, message: Msg) -> None:
        for sender in msgspec.json.decode(message.data, type=_Closed).senders():
            self._rates.closed(sender)

    async def _check(self, sender: Sender) -> None:
        """Close the connection if its owner is kept out."""
        if self._rates.keeps_out(sender.owner):
            log.warning("closing a connection of a publisher that is kept out", user=sender.user)
            body = msgspec.json.encode({"cid": sender.number})
            with suppress(BrokerUnavailableError):  # the next list has it again
                await self._broker.request(disconnect_subject(sender.server), body)
