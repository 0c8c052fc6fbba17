"""What a link of a few Mbit/s must not break: large answers take their time, and leases are renewed behind them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stint.core.names.ids import queue_token
from stint.core.output.chain import Chain
from stint.jetstream import Broker, JetStreamOutput, JetStreamPayloads, output, payloads
from stint.jetstream.streams import stream
from stint.jetstream.wire import broker as wire
from tests.support.brokers import delivered, happen, started, work_queues
from tests.support.events import TOKEN, submitted
from tests.support.outputs import chained
from tests.support.relay import Relay

JOBS = [f"{number:024x}" for number in range(12)]
CHUNK = os.urandom(payloads.CHUNK_BYTES)


class SlowLink(Relay):
    """Passes on what the server says at 2 MB a second, and after so many seconds."""

    def __init__(self, port: int, delay: float = 0) -> None:
        super().__init__(port)
        self._delay = delay

    async def answered(self, data: bytes) -> bytes:
        await asyncio.sleep(self._delay + len(data) / 2e6)
        return data


class Counted:
    """A call of the broker, how often it was made, and how many were under way at the same time at most."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call
        self._now = self.most = self.all = 0

    async def __call__(self, *args: Any, **named: Any) -> Any:
        self._now += 1
        self.all += 1
        self.most = max(self.most, self._now)
        try:
            return await self._call(*args, **named)
        finally:
            self._now -= 1


@pytest.mark.parametrize("several", [False, True])
async def test_a_part_of_a_payload_may_take_longer_than_an_event(
    broker: Broker, nats_url: str, monkeypatch: pytest.MonkeyPatch, *, several: bool
) -> None:
    """A cluster is asked once, too: its other answer would be as long, and take the link from the next part."""
    monkeypatch.setattr(wire, "REPLICA_WAIT", 0.1)
    chunks = await JetStreamPayloads(broker).put(TOKEN, JOBS[0], CHUNK)
    relay = SlowLink(int(nats_url.rpartition(":")[2]))
    async with relay.listening() as port, started(f"nats://127.0.0.1:{port}") as far:
        await far.wait_connected()
        monkeypatch.setattr(Broker, "several", several)
        asked = Counted(far.client.request)
        monkeypatch.setattr(far.client, "request", asked)
        assert await JetStreamPayloads(far).get(TOKEN, JOBS[0], chunks) == CHUNK
    assert asked.all == 1


async def test_few_chunks_of_payloads_and_output_but_all_lines_are_under_way_at_a_time(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All chunks at once would keep a slow link busy for longer than a lease may go without a renewal.

    Lines wait for a round trip each: one behind the other, those of 60 jobs would be 3 s late at 200 ms.
    """
    stored, written = JetStreamPayloads(broker), JetStreamOutput(broker)
    await asyncio.gather(*(stored.put(TOKEN, job_id, b"sealed") for job_id in JOBS))
    reads, appends = Counted(broker.direct_last), Counted(broker.publish)
    monkeypatch.setattr(broker, "direct_last", reads)
    monkeypatch.setattr(broker, "publish", appends)
    await asyncio.gather(*(stored.get(TOKEN, job_id, 1) for job_id in JOBS))
    chain, chunk = chained(Chain(), CHUNK[: output.UNDER_WAY // 4])
    last = await asyncio.gather(*(written.append(TOKEN, job_id, chunk, after=0) for job_id in JOBS))
    assert (reads.most, appends.most) == (payloads.READS, 4)
    _, line = chained(chain, b"line\n")
    lines = (written.append(TOKEN, job_id, line, after=place) for job_id, place in zip(JOBS, last, strict=True))
    await asyncio.gather(*lines)
    assert appends.most == len(JOBS)


async def test_the_end_of_a_read_takes_no_further_request(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a round trip, for each look of somebody who follows a job."""
    written, job_id, chain, last = JetStreamOutput(broker), "f" * 24, Chain(), 0
    for data in (b"line\n", CHUNK[: 200 * 1024], CHUNK[: 200 * 1024]):
        chain, chunk = chained(chain, data)
        last = await written.append(TOKEN, job_id, chunk, after=last)
    for size, requests in ((stream.BATCH_BYTES, 1), (100 * 1024, 2)):
        reads = Counted(Broker.direct_get.__get__(broker))
        monkeypatch.setattr(broker, "direct_get", reads)
        monkeypatch.setattr(stream, "BATCH_BYTES", size)
        assert [chunk.number async for chunk in written.read(TOKEN, job_id)] == [1, 2, 3]
        assert reads.all == requests


async def test_a_renewal_waits_for_its_answer_for_longer_than_other_requests(
    broker: Broker, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await happen(broker, "e" * 24, submitted(), token=queue_token("slow"))
    relay = SlowLink(int(nats_url.rpartition(":")[2]), delay=0.3)
    async with relay.listening() as port, started(f"nats://127.0.0.1:{port}") as far:
        await far.wait_connected()
        delivery = await delivered(await work_queues(far), queue_token("slow"))
        monkeypatch.setattr(far, "timeout", 0.1)
        await delivery.renew()
