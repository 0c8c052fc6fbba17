"""How fast the projector catches up, beside reading and acknowledging the same messages."""

import time
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks.filled import caught_up, connected, events_of, job_ids, publish
from benchmarks.kept import projector_stopped
from benchmarks.measure import Goal, Row, compared
from benchmarks.stack import stack
from stint.core.names.streams import EVENTS

JOBS: Final = 4000
QUEUES: Final = 50
FETCH: Final = 200
PATIENCE: Final = 300
"""Seconds that a busy machine may take."""


async def rows(times: int) -> Sequence[Row]:
    """One projector behind a log that has grown while it stood still."""
    ours, theirs = [], []
    async with stack(runners=0) as stint, connected(stint.env) as client:
        for _ in range(times):
            async with projector_stopped(stint):
                before = (await client.jetstream().stream_info(EVENTS)).state.last_seq
                await publish(client, EVENTS, events_of(job_ids(JOBS), QUEUES))
            start = time.perf_counter()
            await caught_up(client, PATIENCE)
            ours.append(JOBS * 3 / (time.perf_counter() - start))
            theirs.append(await _read(client, before + 1))
    beside = f"fetch({FETCH}) and ack alone"
    return [compared("projector catching up", "events/s", ours, beside, theirs, Goal(0.6, at_least=True))]


async def _read(client: Client, first: int) -> float:
    """Events a second."""
    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=first
    )
    reader = await client.jetstream().pull_subscribe("", stream=EVENTS, config=config)
    start, seen = time.perf_counter(), 0
    while seen < JOBS * 3:
        for message in await reader.fetch(FETCH):
            await message.ack()
            seen += 1
    rate = seen / (time.perf_counter() - start)
    await reader.unsubscribe()
    return rate
