"""What questions to the streams cost when there are many jobs and queues, and what the servers need to hold them."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import nats.errors
from nats.aio.client import Client
from tests.support.waiting import until, until_true

from benchmarks.filled import connected, events_of, fill, in_work, job_ids, publish, queue_of
from benchmarks.kept import until_listed
from benchmarks.measure import Goal, Measured, Row, alone, compared, cpu_of, disk_of, memory_of, sized, timed
from benchmarks.stack import Stack, opened, stack
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, WORK
from stint.core.names.subjects import event_filter
from stint.jetstream import Broker, JetStreamEventLog, JetStreamHistory, JetStreamWorkQueues, ServerClock
from stint.process.environment import load
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import build, build_sweeper
from stint_projector.janitor import Janitor

SIZES: Final = tuple(int(n) for n in os.environ.get("BENCH_JOBS", "10000,200000").split(","))
"""Jobs that have ended. In the end as many wait as the most of them."""
KEPT: Final = "kept jobs with their facts"
QUEUES: Final = 10_000
SAMPLE: Final = 50
"""Jobs that are loaded."""
LOOKS: Final = 3
WATCHED: Final = 120
"""Seconds: eight sweeps, and at least one of Go's collections."""
SETTLED: Final = 120
"""Seconds in which NATS writes down the state of streams that were just filled, and Go collects what that has left."""
PATIENCE: Final = 1200
"""Seconds that a busy machine may take to fill the streams and the view."""


async def rows(times: int) -> Sequence[Row]:
    """The same questions with few and with many jobs."""
    found: list[Row] = []
    looks: dict[int, list[Measured]] = {}
    for size in SIZES:
        ended = job_ids(size)
        async with stack(runners=0) as stint, connected(stint.env) as client:
            await fill(client, ended, QUEUES, PATIENCE)
            await until_listed(stint, size, PATIENCE)
            # Before the restarts: after an outage the projector compares all views with the log, which is not idle.
            found.append(sized("idle CPU of projector and NATS", "% of a core", await _idle(stint), size, KEPT))
            seconds = [await _restart(stint, client) for _ in range(LOOKS)]
            restart = Measured("first submission to WORK after a restart of NATS", "s", seconds)
            found += _needed(stint, size)
            async with opened(stint) as broker:
                found += await _load(broker, ended)
                looks[size] = [restart, *await _looks(stint, broker)]
            if size == SIZES[-1]:
                found.append(await _pending(stint, client, size, times))
    for many in SIZES[1:]:
        found += [
            Row(f"{many:,} jobs: {ours.what}", ours, replace(theirs, what=f"{SIZES[0]:,} jobs"))
            for ours, theirs in zip(looks[many], looks[SIZES[0]], strict=True)
        ]
    return found


async def _restart(stint: Stack, client: Client) -> float:
    """Seconds from the first submission that NATS stores after a restart until it is in its queue."""
    before = (await client.jetstream().stream_info(WORK)).state.last_seq
    os.kill(stint.pid("nats-1"), signal.SIGTERM)  # `stint dev` starts it again
    await until_true(lambda: not client.is_connected, seconds=PATIENCE)
    subject, body = next(events_of(job_ids(1), QUEUES, over=False))
    stored = await until(lambda: _stored(stint, subject, body), seconds=PATIENCE)
    await until_true(lambda: client.is_connected, seconds=PATIENCE)
    await in_work(client, lambda state: state.last_seq > before, PATIENCE)
    seconds = time.perf_counter() - stored
    await client.jetstream().purge_stream(WORK)
    return seconds


async def _stored(stint: Stack, subject: str, body: bytes) -> float:
    """When NATS stored an event, 0 if it is still starting."""
    try:
        async with connected(stint.env, allow_reconnect=False) as client:
            await client.jetstream().publish(subject, body, stream=EVENTS)
    except (nats.errors.Error, OSError):
        return 0
    return time.perf_counter()


def _needed(stint: Stack, size: int) -> list[Row]:
    """What holds these jobs, of which NATS has just been started."""
    disk = disk_of(stint.folder / "data" / "nats")
    parts = {"NATS": "nats-1", "API": "api-1", "projector": "projector-1"}
    memory = {f"memory of {name}": memory_of(stint.pid(part)) for name, part in parts.items()}
    return [sized(what, "MB", [value], size, KEPT) for what, value in {**memory, "disk of NATS": disk}.items()]


async def _load(broker: Broker, ids: Sequence[str]) -> list[Row]:
    """For the first load of a job NATS reads a whole block of the stream from the disk, unless it has it still."""
    log = JetStreamEventLog(broker)
    known = {ids[n]: queue_token(queue_of(n, QUEUES)) for n in range(0, len(ids), max(1, len(ids) // SAMPLE))}
    first, named, unnamed = [], [], []
    for job_id, token in known.items():
        asked = event_filter(token=token, job_id=job_id)
        first.append(await timed(lambda job_id=job_id: log.load(job_id)))  # type: ignore[misc]
        named.append(await timed(lambda asked=asked: broker.direct_get(EVENTS, {"multi_last": [asked]})))  # type: ignore[misc]
        unnamed.append(await timed(lambda job_id=job_id: log.load(job_id)))  # type: ignore[misc]
    jobs = f"{len(ids):,} jobs in {QUEUES:,} queues"
    beside, goal = "one direct get that names its queue", Goal(0.6, unit="ms")
    return [
        alone(f"{jobs}: first load by id", "ms", first),
        compared(f"{jobs}: load by id", "ms", unnamed, beside, named, goal),
    ]


async def _looks(stint: Stack, broker: Broker) -> list[Measured]:
    """What the projector does now and then, done here."""
    settings = load(ProjectorSettings, stint.env)
    clock = ServerClock(broker)
    janitor = Janitor(build(settings, broker, clock), JetStreamHistory(broker))
    sweeper = build_sweeper(settings, broker, clock)
    found = []
    for name, look in {"sweeper": sweeper.sweep, "janitor": janitor.expire}.items():
        first, *later = [await timed(look) for _ in range(1 + LOOKS)]
        found += [Measured(f"first look of the {name}", "ms", [first]), Measured(f"look of the {name}", "ms", later)]
    return found


async def _idle(stint: Stack) -> list[float]:
    """What the projector's process and NATS use, looks included, in per cent of a core."""
    pids = stint.pid("projector-1"), stint.pid("nats-1")
    await asyncio.sleep(SETTLED)
    before = cpu_of(*pids)
    await asyncio.sleep(WATCHED)
    return [(cpu_of(*pids) - before) / WATCHED / 10]


async def _pending(stint: Stack, client: Client, waiting: int, times: int) -> Row:
    await publish(client, EVENTS, events_of(job_ids(waiting), QUEUES, over=False))
    await in_work(client, lambda state: state.messages >= waiting, PATIENCE)
    async with opened(stint) as broker:
        queues = JetStreamWorkQueues(broker, lease=30.0)
        name = f"{waiting:,} waiting jobs in {QUEUES:,} queues: queues with work"
        return alone(name, "ms", [await timed(queues.pending) for _ in range(times)])
