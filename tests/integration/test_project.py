"""The documentation site, and the benchmarks as a process."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.waiting import until_true

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|img|iframe)[^>]* src="?([^" >]+)|<link[^>]* href="?([^" >]+)')


def test_the_site_builds_without_a_warning_and_a_browser_needs_no_other_host_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "search" / "search_index.json").is_file()
    assert len(list(tmp_path.glob("**/index.html"))) == len(list((ROOT / "docs").glob("**/*.md")))
    for page in tmp_path.glob("**/*.html"):
        loaded = ["".join(found) for found in LOADED.findall(page.read_text(encoding="utf-8"))]
        assert any(source.endswith("mermaid.tiny.js") for source in loaded)
        assert [source for source in loaded if "//" in source] == []


@pytest.mark.soak
async def test_benchmarks_that_are_stopped_leave_no_folder_and_no_process(tmp_path: Path) -> None:
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
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - an empty folder needs no thread
    assert _processes_of(tmp_path) == []


def _processes_of(folder: Path) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if bytes(folder) in command.read_bytes():
                found.append(command.parent.name)
    return found
