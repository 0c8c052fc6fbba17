"""What each guarantee costs by itself: the same request with and without it, alternately, on an idle stack."""

import secrets
from collections.abc import Sequence
from typing import Final

from tests.support.outputs import chained

from benchmarks.filled import job_ids, life
from benchmarks.measure import Row, alternately, compared, timed
from benchmarks.stack import Stack, opened, stack
from stint.core.codec import encode
from stint.core.events import AnyEvent
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress, log_subject
from stint.core.output.chain import Chain
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput, JetStreamPayloads, JetStreamWorkQueues
from stint.vault import Vault

QUEUE: Final = "guarantees"
TOKEN: Final = queue_token(QUEUE)
CHUNK: Final = 64 * 1024
"""Bytes of output."""
PAYLOAD: Final = 10 * 1024
"""Bytes of a job."""


async def rows(times: int) -> Sequence[Row]:
    """Without runners, so that nothing else works."""
    async with stack(runners=0) as stint, opened(stint) as broker:
        return [
            await _append(broker, times * 40),
            await _ack(broker, times * 20),
            await _seal(stint, broker, times * 20),
            await _chain(broker, times * 40),
        ]


async def _append(broker: Broker, times: int) -> Row:
    log = JetStreamEventLog(broker)
    submitted, started, *_ = life(QUEUE)
    jobs = [(job_id, await _publish(broker, job_id, submitted)) for job_id in job_ids(2 * (times + 1))]
    waiting = iter(jobs)

    async def conditional() -> None:
        job_id, sequence = next(waiting)
        await log.append(TOKEN, job_id, started, after=sequence)

    async def plain() -> None:
        await _publish(broker, next(waiting)[0], started)

    ours, theirs = await alternately(conditional, plain, times)
    return compared("an event appended on condition of the job's last one", "ms", ours, "published without", theirs)


async def _publish(broker: Broker, job_id: str, event: AnyEvent) -> int:
    """Store an event on no condition; its sequence."""
    address = EventAddress(kind=event.kind, token=TOKEN, job_id=job_id)
    return int((await broker.publish(address.subject, encode(event)))["seq"])


async def _ack(broker: Broker, times: int) -> Row:
    queues = JetStreamWorkQueues(broker, lease=30.0)
    await queues.start()
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(times):
        if delivery := await queues.pull(TOKEN, 5):
            ours.append(await timed(delivery.ack))
        if delivery := await queues.pull(TOKEN, 5):
            subject = delivery.ack_subject
            theirs.append(await timed(lambda subject=subject: broker.request(subject, b"+ACK")))  # type: ignore[misc]
    return compared(
        "an ack, sent while the delivery is the queue's last one", "ms", ours, "confirmed ack alone", theirs
    )


async def _seal(stint: Stack, broker: Broker, times: int) -> Row:
    vault, payloads = Vault(stint.env["VAULT_ADDR"]), JetStreamPayloads(broker)
    token, key = stint.env["VAULT_TOKEN"], stint.env["STINT_ROLE"]
    plain, ids = secrets.token_bytes(PAYLOAD), iter(job_ids(2 * (times + 1)))

    async def kept(payload: bytes) -> bytes:
        job_id = next(ids)
        return await payloads.get(TOKEN, job_id, await payloads.put(TOKEN, job_id, payload))

    async def sealed() -> None:
        stored = await kept((await vault.encrypt(token, key, plain)).encode())
        await vault.decrypt(token, key, stored.decode())

    ours, theirs = await alternately(sealed, lambda: kept(plain), times)
    return compared("a payload of 10 kB sealed, stored, read and opened", "ms", ours, "stored and read", theirs)


async def _chain(broker: Broker, times: int) -> Row:
    output, data = JetStreamOutput(broker), secrets.token_bytes(CHUNK)
    job_id, other = job_ids(2)
    chain, after = Chain(), 0

    async def with_digest() -> None:
        nonlocal chain, after
        chain, chunk = chained(chain, data)
        after = await output.append(TOKEN, job_id, chunk, after=after)

    async def plain() -> None:
        await broker.publish(log_subject(TOKEN, other), data)

    ours, theirs = await alternately(with_digest, plain, times)
    return compared("64 KiB of output, chained by digest", "ms", ours, "published without", theirs)
