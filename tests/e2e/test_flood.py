"""A publisher floods its queue with junk, while others use the API and other queues."""

import asyncio
import secrets
import statistics
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.jetstream import Access
from tests.support.accounts import connected
from tests.support.flood import flood
from tests.support.stack import Stack, dev
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

PER_MINUTE = 100_000
PROBES = 5
QUEUE = "probes"
SLOWEST = 60.0
"""Seconds that a write may take. It says what the disk can do, and so has no other bound."""
STARTS = 20
"""Writes beside the flood in whose time a job must have started. It takes two, and what runner and API read."""


@pytest.fixture
async def stack(tmp_path: Path, busybox: str) -> AsyncIterator[Stack]:
    assert busybox
    async with dev(tmp_path / "dev") as stack:
        yield stack


async def probe(stack: Stack) -> tuple[str, float]:
    """A job in another queue, from its submission to its end: its id, and the seconds that it waited for its start."""
    begun = asyncio.get_running_loop().time()
    job_id = await stack.submit("true", qname=QUEUE)
    await until(lambda: stack.get(job_id), lambda job: job["status"] != "queued", seconds=120)
    started = asyncio.get_running_loop().time() - begun
    assert (await stack.end(job_id))["status"] == "success"
    return job_id, started


async def write(access: Access) -> float:
    """Seconds that a bare write of this publisher takes, beside the flood: those before it are synced first."""
    async with connected(access) as broker:
        begun = asyncio.get_running_loop().time()
        subject = EventAddress("submitted", queue_token("deploys"), secrets.token_hex(12)).subject
        assert "error" not in await broker.publish(subject, b"{}", wait=SLOWEST)
        return asyncio.get_running_loop().time() - begun


async def test_jobs_of_other_queues_run_in_order_and_nearly_as_soon_as_the_disk_allows(stack: Stack) -> None:
    key = stack.data_dir / "nats" / "publishers" / "dev" / "STINT_NATS_NKEY"
    mallory = Access(url=stack.env["NATS_URL"], nkey=key.read_text(), inbox="_INBOX.dev")
    idle = statistics.median([(await probe(stack))[1] for _ in range(5)])
    async with flood(mallory, "deploys", per_minute=PER_MINUTE):
        waited, writes = [], []
        for _ in range(PROBES):  # each asserts that the API accepts the job, and that it succeeds
            waited.append((await probe(stack))[1])
            writes.append(await write(mallory))
        together = [await stack.submit("true", qname=QUEUE) for _ in range(3)]
        ended = [await stack.end(job_id) for job_id in together]
    assert [job["status"] for job in ended] == ["success"] * 3
    starts = [datetime.fromisoformat(job["started"]) for job in ended]
    assert starts == sorted(starts), "in the order of their submission"
    bound = 5 * idle + STARTS * statistics.median(writes)
    assert statistics.median(waited) <= bound, (idle, waited, writes)
