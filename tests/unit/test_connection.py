"""What a process does with its connection to NATS and with what comes there, without a server."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlparse

import pytest
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.errors import StaleConnectionError
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.jetstream import Broker, EventFeed
from stint.jetstream.consuming.new_queues import NewQueues
from stint.jetstream.wire import connection
from stint.jetstream.wire.access import AnyBytesClient
from stint.jetstream.wire.protocol import NoAnswerError
from stint.jetstream.wire.pulls import EXPIRED, Inbox
from stint.jetstream.wire.requests import DeniedError, Requests
from stint_runner.lease.lease import LeaseTimes
from tests.support.brokers import started
from tests.support.virtual_time import in_virtual_time, now
from tests.support.waiting import PATIENCE, meanwhile

NOWHERE = "nats://127.0.0.1:1"
CLIENT = Broker(NOWHERE).client
ACK = "$JS.ACK.EVENTS.projector.1.7.3.1767323045678000000.0"
EVENT = Msg(CLIENT, subject="ev.a.b.ended", reply=ACK, data=b"{}")
OVER = Msg(CLIENT, subject="inbox", headers={"Status": EXPIRED})


async def test_what_is_done_while_there_is_a_connection_begins_anew_after_each_outage() -> None:
    broker, said = Broker(NOWHERE), asyncio.Queue[str]()

    async def work() -> None:
        said.put_nowait("begun")
        try:
            await asyncio.Event().wait()
        finally:
            said.put_nowait("ended")

    async with asyncio.timeout(PATIENCE), meanwhile(broker.anew(work)):
        for _ in range(2):
            await asyncio.sleep(0.05)
            assert said.empty(), "there is no connection"
            broker.lost = asyncio.Event()
            broker.connected.set()
            assert await said.get() == "begun"
            broker.connected.clear()
            broker.lost.set()
            assert await said.get() == "ended"


async def test_a_server_that_closes_a_new_connection_without_a_word_has_not_taken_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At first and again, as one that is stopped in that moment."""
    begun: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        takes = len(begun) % 2 == 0
        writer.write(b'INFO {"version":"2.14.0","max_payload":1048576,"headers":true}\r\n')
        async for line in reader:
            if line == b"PING\r\n" and not takes:
                break
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    monkeypatch.setattr(connection, "CONNECT_WAIT", 0.05)
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        started(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}") as broker,
        asyncio.timeout(PATIENCE),
    ):
        for number in (2, 4):
            await broker.wait_connected()
            assert len(begun) == number
            begun[-1].close()
            await broker.lost.wait()


class Pinging(AnyBytesClient):
    """Connected to a server that answers the pings before `until`, in seconds. `left` returns when it is left."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.options |= {"ping_interval": connection.PING_INTERVAL, "max_outstanding_pings": connection.UNANSWERED}
        self._status = Client.CONNECTED
        self._until = until

    async def left(self) -> float:
        await self._ping_interval()
        return now()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        del future
        self._pings_outstanding *= now() >= self._until

    async def _process_op_err(self, e: Exception) -> None:
        assert isinstance(e, StaleConnectionError)


@in_virtual_time()
async def test_a_silent_server_is_left_before_a_lease_is_fenced() -> None:
    answered = 39
    silent = await Pinging(until=answered + 1).left() - answered
    times = LeaseTimes(lease=30, takeover=15)
    assert times.heartbeat + silent + times.heartbeat / 5 <= times.fence, "from the last renewal to the next one"


@pytest.mark.parametrize("whole", [True, False])
@in_virtual_time()
async def test_a_server_that_answers_no_pings_and_sends_messages_is_left_later(*, whole: bool) -> None:
    """Or parts of one: 512 KiB of a payload take 7 s at 0.6 Mbit/s."""
    client = Pinging(until=0)

    async def hear() -> None:
        while True:
            await asyncio.sleep(2)
            client.stats["in_msgs"] += whole
            client._ps.buf += b"" if whole else b"part"  # noqa: SLF001

    async with meanwhile(hear()):
        assert await client.left() == 12


async def test_a_server_that_was_left_is_tried_after_all_others() -> None:
    tried = list[Srv]()

    class Trying(AnyBytesClient):
        async def _connect_to_server(self, s: Srv) -> None:
            tried.append(s)
            if s is not left:
                raise OSError

    client = Trying()
    client.options["max_reconnect_attempts"] = -1
    client._error_cb = connection.Connection(NOWHERE, quiet=True)._on_error  # noqa: SLF001
    others = [Srv(urlparse(NOWHERE)) for _ in range(2)]
    left = client._current_server = Srv(urlparse(NOWHERE))  # noqa: SLF001
    client._server_pool = [left, *others]  # noqa: SLF001
    await client._select_next_server()  # noqa: SLF001
    assert tried == [*others, left]


async def test_whoever_is_cancelled_while_the_answer_comes_ends() -> None:
    answer = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(Requests().answer("subject", asyncio.wait_for(answer, PATIENCE), lost=False))
    await asyncio.sleep(0)
    answer.set_result(b"")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


class Generous(Broker):
    """Permits what it is asked for."""

    async def settled(self) -> None:
        """At once."""

    async def ask_permission(self, calls: Sequence[str]) -> Sequence[bool]:
        return [True] * len(calls)


async def test_a_hint_that_cannot_be_sent_is_no_refused_login() -> None:
    async def hint(_token: str) -> None:
        raise BrokerUnavailableError

    with capture_logs() as said:
        NewQueues(Generous(NOWHERE), hint).want(queue_token("net-1"))
        await next(task for task in asyncio.all_tasks() if task.get_name() == "new-queues")
    assert said == []


async def test_a_queue_whose_consumer_does_not_answer_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Broker] = []

    async def api(_broker: Broker, call: str) -> dict[str, Any]:
        match call:
            case "denied":
                raise DeniedError
            case "silent":
                raise NoAnswerError
        return {}

    async def replace(broker: Broker) -> None:
        replaced.append(broker)

    async def close(_broker: Broker) -> None:
        pass

    monkeypatch.setattr(Broker, "start", lambda broker: broker.connected.set())
    monkeypatch.setattr(Broker, "close", close)
    monkeypatch.setattr(Broker, "api", api)
    monkeypatch.setattr(Broker, "replace", replace)
    broker = Broker(NOWHERE)
    assert await broker.ask_permission(["there", "denied", "silent"]) == [True, False, True]
    assert replaced == [broker]


async def test_each_pull_is_over_with_its_last_message_or_with_a_status() -> None:
    inbox = Inbox(2, asyncio.Event())
    for _ in range(2):
        await inbox.receive(EVENT)
        assert inbox.take() == ([EVENT], False, "")
        await inbox.receive(EVENT)
        assert inbox.take() == ([EVENT], True, "")
    await inbox.receive(EVENT)
    await inbox.receive(OVER)
    assert inbox.take() == ([EVENT], True, EXPIRED)
    await inbox.receive(EVENT)
    assert inbox.take() == ([EVENT], False, ""), "the next pull is counted from its own first message"


async def test_it_fills_with_what_comes_in_time_and_not_once_the_connection_is_lost() -> None:
    held = set[str]()
    lost = asyncio.Event()
    inbox = Inbox(2, lost, held)
    assert not await inbox.fills(within=0.01)
    await inbox.receive(EVENT)
    assert await inbox.fills(within=0)
    assert (inbox.take(), held) == (([EVENT], False, ""), {EVENT.reply})
    lost.set()
    async with asyncio.timeout(10):
        assert not await inbox.fills(within=600)


@pytest.mark.parametrize("reply", ["", "x", "$JS.ACK.EVENTS", "$JS.ACK.EVENTS.projector.1.7", "$JS.ACK.a.b.c.d.e.f.g"])
async def test_what_a_stranger_sends_to_a_readers_inbox_is_left_out(reply: str) -> None:
    stranger = Msg(CLIENT, subject="ev.a.b.ended", reply=reply, data=b"{}")
    (batch,) = EventFeed(Broker(NOWHERE), "projector")._batches([stranger, EVENT], recent=False)  # noqa: SLF001 - its inbox has no other way
    assert [(event.sequence, event.number, event.ack_subject) for event in batch] == [(7, 3, ACK)]
