"""What jobs with content cost a runner in memory."""

import asyncio
import base64
import io
import secrets
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import memory
from tests.support.runner_bench import Bench
from tests.support.runner_process import RunnerProcess, ended_at_last, runner_process

pytestmark = pytest.mark.soak

MEBIBYTE = 2**20
JOBS = 4
BUDGET = 128 * MEBIBYTE
"""Bytes: for one payload at a time with the content below."""


@pytest.fixture
async def runner(bench: Bench, tmp_path: Path) -> AsyncIterator[RunnerProcess]:
    settings = {
        "STINT_LEASE": "30",
        "STINT_TAKEOVER": "15",
        "STINT_CAPACITY": str(JOBS),
        "STINT_KILL_GRACE": "0.1",
        "STINT_DRAIN": "0",
    }
    runner = runner_process(bench, tmp_path, **settings, STINT_PREPARE_MEMORY=str(BUDGET))
    async with ended_at_last(runner):
        yield await runner.start()


def content(size: int, *, random: bool = False) -> str:
    """A submission's content with the file /file, that can be compressed to a thousandth or not at all."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0 if random else 9) as tar:
        entry = tarfile.TarInfo("file")
        entry.size = size
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(size) if random else bytes(size)))
    return "targz," + base64.b64encode(packed.getvalue()).decode()


async def all_started(bench: Bench, packed: str, size: int) -> list[str]:
    """Jobs that have their content, and wait."""
    script = f"test $(wc -c </file) = {size} && echo has it; exec sleep 600"
    running = (bench.running(script, queue=f"queue-{n}", payload={"content": packed}) for n in range(JOBS))
    job_ids = await asyncio.gather(*running)
    assert {await bench.text(await bench.loaded(job_id)) for job_id in job_ids} == {"has it\n"}
    return job_ids


async def test_content_is_never_unpacked_in_memory(bench: Bench, runner: RunnerProcess) -> None:
    packed = content(200_000_000)
    before = memory.from_now(runner.pid)
    await all_started(bench, packed, 200_000_000)
    assert memory.peak(runner.pid) - before < 40 * MEBIBYTE


async def test_jobs_are_prepared_within_one_bound_and_then_hold_nothing(bench: Bench, runner: RunnerProcess) -> None:
    size = 8 * MEBIBYTE
    packed = content(size, random=True)
    before = memory.from_now(runner.pid)
    ids = await all_started(bench, packed, size)
    assert memory.peak(runner.pid) - before < BUDGET
    assert memory.now(runner.pid) - before < 20 * MEBIBYTE
    assert runner.said("waiting for memory that other jobs have")
    for job_id in ids:
        await bench.append_kill(job_id)
        assert (await bench.end(job_id))[1].reason == "killed"
