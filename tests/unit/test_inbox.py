"""When a pull is over, of which nobody tells once it has brought all that was asked for, and what is an event."""

import asyncio

import pytest
from nats.aio.msg import Msg

from stint.jetstream import Broker, EventFeed
from stint.jetstream.consuming.pulls import EXPIRED, Inbox

CLIENT = Broker("nats://127.0.0.1:1").client
ACK = "$JS.ACK.EVENTS.projector.1.7.3.1767323045678000000.0"
EVENT = Msg(CLIENT, subject="ev.a.b.ended", reply=ACK, data=b"{}")
OVER = Msg(CLIENT, subject="inbox", headers={"Status": EXPIRED})


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
    broker = Broker("nats://127.0.0.1:1")
    messages = [Msg(broker.client, subject="ev.a.b.ended", reply=one, data=b"{}") for one in (reply, ACK)]
    (batch,) = EventFeed(broker, "projector")._batches(messages, recent=False)  # noqa: SLF001 - its inbox has no other way
    assert [(event.sequence, event.number, event.ack_subject) for event in batch] == [(7, 3, ACK)]
