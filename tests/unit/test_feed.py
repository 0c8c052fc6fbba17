"""What the projectors' feed takes for an event."""

import pytest
from nats.aio.msg import Msg

from stint.jetstream import Broker, EventFeed

ACK = "$JS.ACK.EVENTS.projector.1.7.3.1767323045678000000.0"


@pytest.mark.parametrize("reply", ["", "x", "$JS.ACK.EVENTS", "$JS.ACK.EVENTS.projector.1.7", "$JS.ACK.a.b.c.d.e.f.g"])
async def test_what_a_stranger_sends_to_a_readers_inbox_is_left_out(reply: str) -> None:
    broker = Broker("nats://127.0.0.1:1")
    messages = [Msg(broker.client, subject="ev.a.b.ended", reply=one, data=b"{}") for one in (reply, ACK)]
    (batch,) = EventFeed(broker, "projector")._batches(messages, recent=False)  # noqa: SLF001 - its inbox has no other way
    assert [(event.sequence, event.number, event.ack_subject) for event in batch] == [(7, 3, ACK)]
