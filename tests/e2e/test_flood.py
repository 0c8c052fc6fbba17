"""A publisher floods its queue with junk, while others use the API and other queues."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from stint.jetstream import Access
from tests.support.accounts import token_for
from tests.support.flood import flood
from tests.support.servers import OpenBao
from tests.support.stack import Stack, dev
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

PER_MINUTE = 100_000
PROBES = 15
SLOWER = 3
"""Times that a job may take longer to start while somebody floods. It is 1.5 times on a machine that does nothing else
(`python -m benchmarks.flood`); other tests beside this one disturb the measurement."""
QUEUE, FLOODED = "probes", "deploys"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
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


async def by_key(stack: Stack) -> Access:
    key = stack.data_dir / "nats" / "publishers" / "dev" / "STINT_NATS_NKEY"
    return Access(url=stack.env["NATS_URL"], nkey=key.read_text(), inbox="_INBOX.dev")


async def by_token(stack: Stack) -> Access:
    openbao = OpenBao(stack.env["VAULT_ADDR"], stack.env["VAULT_TOKEN"])
    token = await token_for(openbao, {FLOODED: ["create"]})
    return Access(url=stack.env["NATS_URL"], user=FLOODED, password=token)


@pytest.mark.parametrize("mallory", [by_key, by_token])
async def test_jobs_of_other_queues_run_in_order_and_start_nearly_as_soon_as_without_it(
    stack: Stack, mallory: Callable[[Stack], Awaitable[Access]]
) -> None:
    before = [(await probe(stack))[1] for _ in range(PROBES)]
    async with flood(await mallory(stack), FLOODED, per_minute=PER_MINUTE):
        # Each asserts that the API accepts the job, and that it succeeds.
        waited = [(await probe(stack))[1] for _ in range(4 * PROBES)]
        together = [await stack.submit("true", qname=QUEUE) for _ in range(3)]
        ended = [await stack.end(job_id) for job_id in together]
    assert [job["status"] for job in ended] == ["success"] * 3
    starts = [datetime.fromisoformat(job["started"]) for job in ended]
    assert starts == sorted(starts), "in the order of their submission"
    after = [(await probe(stack))[1] for _ in range(PROBES)]
    idle = max(map(statistics.median, (before, after)))
    assert statistics.median(waited) <= SLOWER * idle, (before, waited, after)
