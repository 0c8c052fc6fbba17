"""The benchmarks as a process."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.support.waiting import until_true

ROOT = Path(__file__).parents[2]


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_benchmarks_that_are_stopped_leave_no_folder(tmp_path: Path) -> None:
    """As by `timeout`, which sends SIGTERM. Their Stint ends before its folder goes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "--only", "queues", "--times", "1"),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_true(lambda: list(tmp_path.glob("stint-bench-*/stack.env")))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    assert left(tmp_path) == []
