"""Content of jobs: what it costs a runner in memory, and what Docker unpacks of it."""

import asyncio
import base64
import gzip
import io
import secrets
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec
from stint_runner.inputs.content import check_content
from stint_runner.inputs.tarball import Tarball
from tests.support import memory
from tests.support.runner_bench import Bench
from tests.support.runner_process import RunnerProcess, ended_at_last, runner_process
from tests.support.tarballs import END, GNU, HIDDEN, ONE_BLOCK, extended, header, padded, record

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


def content(size: int) -> str:
    """A submission's content with the file /file, which cannot be compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as tar:
        entry = tarfile.TarInfo("file")
        entry.size = size
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(size)))
    return "targz," + base64.b64encode(packed.getvalue()).decode()


async def all_started(bench: Bench, packed: str, size: int) -> list[str]:
    """Jobs that have their content, and wait."""
    script = f"test $(wc -c </file) = {size} && echo has it; exec sleep 600"
    running = (bench.running(script, queue=f"queue-{n}", payload={"content": packed}) for n in range(JOBS))
    job_ids = await asyncio.gather(*running)
    assert {await bench.text(await bench.loaded(job_id)) for job_id in job_ids} == {"has it\n"}
    return job_ids


@pytest.mark.soak
async def test_jobs_are_prepared_within_one_bound_and_then_hold_nothing(bench: Bench, runner: RunnerProcess) -> None:
    size = 8 * MEBIBYTE
    packed = content(size)
    before = memory.from_now(runner.pid)
    ids = await all_started(bench, packed, size)
    assert memory.peak(runner.pid) - before < BUDGET
    assert memory.now(runner.pid) - before < 20 * MEBIBYTE
    assert runner.said("waiting for memory that other jobs have")
    for job_id in ids:
        await bench.append_kill(job_id)
        assert (await bench.end(job_id))[1].reason == "killed"


def named(path: str) -> bytes:
    """A long name, as GNU tar has it."""
    return header("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=b"%o" % len(path), magic=GNU) + padded(
        path.encode()
    )


PLAIN = header("d/a", size=b"4") + padded(b"data") + header("d/b", size=ONE_BLOCK) + HIDDEN + END
PACKED = {
    "plain": gzip.compress(PLAIN),
    "binary size": gzip.compress(header("d/a", size=b"\x80" + (512).to_bytes(11, "big")) + HIDDEN + END),
    "pax size": gzip.compress(extended(record(b"size", b"512")) + header("d/a") + HIDDEN + END),
    "global size": gzip.compress(extended(record(b"size", b"512"), kind=b"g") + header("d/a") + HIDDEN + END),
    "both names": gzip.compress(
        named("d/gnu") + extended(record(b"path", b"d/pax")) + header("d/a", size=b"1") + padded(b"x") + END
    ),
    "folder of old": gzip.compress(
        header("d/a/", kind=tarfile.AREGTYPE) + header("d/a/b", size=b"1") + padded(b"x") + END
    ),
    "folder of old with another name": gzip.compress(named("d/file") + header("d/a/", kind=tarfile.AREGTYPE) + END),
    "file by a folder's name": gzip.compress(named("d/a/") + header("d/file", kind=tarfile.AREGTYPE) + END),
    "without an end": gzip.compress(PLAIN[: -len(END)]),
    "in parts": gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]),
    "another tar behind": gzip.compress(PLAIN) + gzip.compress(header("d/c", size=b"1") + padded(b"x") + END),
    "zeros behind": gzip.compress(PLAIN) + bytes(5000),
}  # fmt: skip


def seen(packed: bytes) -> dict[str, bytes]:
    tar = Tarball(io.BytesIO(gzip.decompress(packed)).read)
    return {f"/{entry.name}": tar.data(entry) for entry in tar.entries() if entry.regular}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
async def test_docker_unpacks_what_was_checked(engine: DockerEngine, busybox: str, packed: bytes) -> None:
    container = await engine.create(ContainerSpec(image=busybox, labels={"stint-test": "content"}))
    try:
        await engine.put_archive(container, check_content("targz," + base64.b64encode(packed).decode()).archive)
        files = {
            path: data
            for path in ("/d/a", "/d/b", "/d/c", "/d/gnu", "/d/pax", "/d/file", "/d/a/b", "/gostint.yml")
            if (data := await engine.read_file(container, path)) is not None
        }
    finally:
        await engine.remove(container)
    assert files == seen(packed)
