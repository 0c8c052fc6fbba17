"""When a pull is over, of which nobody tells once it has brought all that was asked for."""

import asyncio

from nats.aio.msg import Msg

from stint.jetstream import Broker
from stint.jetstream.consuming.pulls import EXPIRED, Inbox

CLIENT = Broker("nats://127.0.0.1:1").client
EVENT = Msg(CLIENT, subject="ev.a.b.ended", reply="$JS.ACK.EVENTS.projector.1.7.3.1767323045678000000.0", data=b"{}")
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
