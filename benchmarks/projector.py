"""How fast the projector catches up, beside reading and acknowledging the same messages."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Final

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from tests.support.waiting import until

from benchmarks.filled import connected, job_ids, publish, queue_of, stored_events
from benchmarks.measure import Goal, Measured, Row
from benchmarks.stack import stack
from stint.core.subjects import EVENTS, PROJECTOR_DURABLE

JOBS: Final = 4000
QUEUES: Final = 50
FETCH: Final = 200


async def rows(times: int) -> Sequence[Row]:
    """One projector behind a log that has grown while it stood still."""
    ours, theirs = [], []
    async with stack(runners=0) as stint, connected(stint.env["NATS_URL"]) as client:
        stream = client.jetstream()
        for _ in range(times):
            pid = stint.pid("projector-1")
            os.kill(pid, signal.SIGSTOP)
            try:
                before = (await stream.stream_info(EVENTS)).state.last_seq
                ids = job_ids(JOBS)
                events = [stored_events(job_id, queue_of(n, QUEUES)) for n, job_id in enumerate(ids)]
                await publish(client, (event for job in events for event in job))
            finally:
                os.kill(pid, signal.SIGCONT)
            start = time.perf_counter()
            await until(
                lambda: stream.consumer_info(EVENTS, PROJECTOR_DURABLE),
                lambda info: not info.num_pending and not info.num_ack_pending,
            )
            ours.append(JOBS * 3 / (time.perf_counter() - start))
            config = ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=before + 1
            )
            reader = await stream.pull_subscribe("", stream=EVENTS, config=config)
            start, seen = time.perf_counter(), 0
            while seen < JOBS * 3:
                for message in await reader.fetch(FETCH):
                    await message.ack()
                    seen += 1
            theirs.append(seen / (time.perf_counter() - start))
            await reader.unsubscribe()
    return [
        Row(
            "projector catching up",
            Measured("Stint", "events/s", ours),
            Measured(f"fetch({FETCH}) and ack alone", "events/s", theirs),
            [Goal(0.6, at_least=True)],
        )
    ]
