"""Closes the connections of publishers that send too much, by what NATS tells in its system account."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
import structlog
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.names.streams import EVENTS, PAYLOADS
from stint.core.names.subjects import CONNECTED, CONNECTIONS, DISCONNECTED, kick_subject
from stint.jetstream import Broker
from stint.jetstream.streams.stream import Stream
from stint.natsauth.callout.admissions import Admissions
from stint.natsauth.callout.rates import KEPT_OUT, Listed, Rates, Sent, Stored
from stint.natsauth.roles import ALL_PUBLISHERS
from stint.process.waiting import any_of

log = structlog.get_logger()

INTERVAL: Final = 0.5  # seconds between two looks at what the connections have sent
UNHEARD: Final = 10.0  # seconds for which a list is awaited. NATS may not permit it, and logs each attempt
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
    now: datetime
    connections: Sequence[_Connection] | None


class _List(msgspec.Struct):
    server: _Server
    data: _Connections | None = None


class _Client(msgspec.Struct):
    id: int
    acc: str = ""
    user: str = ""


class _Told(msgspec.Struct):
    """What a server tells when a client has logged in, and when its connection is closed; `sent` by the client."""

    server: _Server
    client: _Client
    sent: Sent = Sent()


def _owner(account: str, user: str) -> str:
    """Whose a publisher's connection is, which ends the name that `claims.allowed` has given it; "" for others."""
    return user.rpartition(" ")[2] if account.startswith(ALL_PUBLISHERS.account) else ""


class Connections:
    """Asks for what publishers send, and closes the connections of those that are kept out."""

    def __init__(self, broker: Broker, rates: Rates, admissions: Admissions) -> None:
        self._broker = broker
        self._rates = rates
        self._admissions = admissions
        self._heard = asyncio.Event()
        self._silent = False
        self._streams = [Stream(broker, name) for name in (EVENTS, PAYLOADS)]
        self._stored = Stored()

    async def run(self) -> None:
        """Look until cancelled."""
        inbox = self._broker.client.new_inbox()
        async with (
            self._broker.subscribe(CONNECTED, cb=self._on_connected),
            self._broker.subscribe(DISCONNECTED, cb=self._on_disconnected),
            self._broker.subscribe(inbox, cb=self._on_list),
        ):
            while True:
                await self._look(inbox)

    async def _look(self, inbox: str) -> None:
        await self._broker.wait_connected()
        self._heard.clear()
        with suppress(BrokerUnavailableError):
            await self._broker.send(CONNECTIONS, _ALL, reply=inbox)
        await asyncio.sleep(INTERVAL)
        for owner in self._rates.judge(await self._stored_lately()):
            log.warning("a publisher sends too much and is kept out", owner=owner, seconds=KEPT_OUT)
        was_silent, self._silent = self._silent, not await any_of(self._heard, within=UNHEARD)
        if self._silent and not was_silent:
            log.warning("publishers' rates are not limited: NATS does not list its connections")
        if self._silent:
            self._admissions.forget()

    async def _stored_lately(self) -> float:
        """What the streams of publishers have stored a second, in messages; infinite if unknown."""
        try:
            states = [(await stream.info())["state"] for stream in self._streams]
        except StintError:
            return math.inf
        now = asyncio.get_running_loop().time()
        return self._stored.look(now, [Sent(state["last_seq"], state["bytes"]) for state in states])

    async def _on_list(self, message: Msg) -> None:
        if not message.data:  # nobody listens there
            return
        found = msgspec.json.decode(message.data, type=_List)
        if found.data:
            self._heard.set()
            connections = {
                one.cid: Listed(_owner(one.account, one.authorized_user), Sent(one.in_msgs, one.in_bytes))
                for one in found.data.connections or ()
            }
            for number in self._rates.listed(found.server.id, found.data.now.timestamp(), connections):
                await self._close(found.server.id, number)

    async def _on_connected(self, message: Msg) -> None:
        told = msgspec.json.decode(message.data, type=_Told)
        self._admissions.told(told.server.id, told.client.id)
        if owner := _owner(told.client.acc, told.client.user):
            self._rates.opened(told.server.id, told.client.id, owner)

    async def _on_disconnected(self, message: Msg) -> None:
        told = msgspec.json.decode(message.data, type=_Told)
        self._rates.closed(told.server.id, told.client.id, told.sent)

    async def _close(self, server: str, number: int) -> None:
        with suppress(BrokerUnavailableError):  # the next list has it again
            await self._broker.request(kick_subject(server), msgspec.json.encode({"cid": number}))
