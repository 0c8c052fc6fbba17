"""What questions to the streams cost when there are many jobs and queues."""

from collections.abc import Sequence
from typing import Final

from benchmarks.filled import connected, job_ids, publish, queue_of, stored_events
from benchmarks.kept import projector_stopped
from benchmarks.measure import Goal, Measured, Row, timed
from benchmarks.stack import stack
from stint.core.subjects import EVENTS, event_filter, queue_token
from stint.jetstream import Broker, JetStreamEventLog, JetStreamWorkQueues

QUEUES: Final = 10_000
JOBS: Final = 50_000
WAITING: Final = 50_000


async def rows(times: int) -> Sequence[Row]:
    """Loads and the pending list, on a store of ended and waiting jobs."""
    async with stack(runners=0) as stint, projector_stopped(stint):
        ids = job_ids(JOBS)
        async with connected(stint.env["NATS_URL"]) as client:
            for start in range(0, JOBS, 1000):
                chunk = [stored_events(ids[n], queue_of(n, QUEUES)) for n in range(start, start + 1000)]
                await publish(client, (event for job in chunk for event in job))
            waiting = job_ids(WAITING)
            await publish(
                client,
                (e for n, job_id in enumerate(waiting) for e in stored_events(job_id, queue_of(n, QUEUES), over=False)),
            )
        broker = Broker(stint.env["NATS_URL"], name="bench")
        broker.start()
        await broker.wait_connected()
        log, queues = JetStreamEventLog(broker), JetStreamWorkQueues(broker, lease=30.0)
        known = {ids[n]: queue_token(queue_of(n, QUEUES)) for n in range(0, JOBS, 997)}
        unnamed = [await timed(lambda job_id=job_id: log.load(job_id)) for job_id in known]  # type: ignore[misc]
        filters = [event_filter("*", token, job_id) for job_id, token in known.items()]
        named = [
            await timed(lambda asked=asked: broker.direct_get(EVENTS, {"multi_last": [asked]}))  # type: ignore[misc]
            for asked in filters
        ]
        pending = [await timed(queues.pending) for _ in range(times)]
        await broker.close()
    name = f"{JOBS:,} jobs in {QUEUES:,} queues: "
    return [
        Row(
            name + "load by id",
            Measured("Stint", "ms", unnamed),
            Measured("one direct get that names its queue", "ms", named),
            [Goal(0.6, unit="ms")],
        ),
        Row(f"{WAITING:,} waiting jobs in {QUEUES:,} queues: queues with work", Measured("Stint", "ms", pending)),
    ]
