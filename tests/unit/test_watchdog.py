"""The watchdog's last resort: every overdue job is ended, whatever happens to another one."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import structlog

from stint.core.errors import EngineUnavailableError
from stint.core.names.headers import LABEL_JOB
from stint.process import logs
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerInfo, Engine
from stint_runner.linux import boot_id, boot_time, incarnation
from stint_runner.watchdog import watchdog
from stint_runner.watchdog.deadlines import Deadline, Deadlines
from stint_runner.watchdog.watchdog import Watchdog
from tests.support.pipes import fill
from tests.support.waiting import meanwhile, until_true

JOBS = [letter * 24 for letter in "abcd"]


class FakeEngine(DockerEngine):
    """Containers, one a job, each removed as the test says. A watchdog asks an engine for nothing else."""

    def __init__(self) -> None:
        self.left = dict.fromkeys(JOBS, True)
        self.faults: dict[str, list[Exception]] = {}

    async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
        found = ContainerInfo(container_id=labels[LABEL_JOB], labels=labels, started=True)
        return [found] if self.left[found.container_id] else []

    async def remove(self, container_id: str) -> None:
        await asyncio.sleep(0)
        if faults := self.faults.get(container_id):
            raise faults.pop()
        self.left[container_id] = False


@dataclass
class Scene:
    """A runner, its overdue jobs, and their containers."""

    runner: subprocess.Popen[bytes]
    deadlines: Deadlines
    engine: FakeEngine

    async def watch(self, engine: Engine | None = None) -> None:
        async with asyncio.timeout(20):
            await Watchdog(self.deadlines, engine or self.engine, self.runner.pid).run()

    def assert_all_ended(self) -> None:
        assert not any(self.engine.left.values())
        assert self.runner.wait(10) == -signal.SIGKILL


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(watchdog, "TICK", 0.1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as runner:
        monkeypatch.setattr(os, "getppid", lambda: runner.pid)
        deadlines = Deadlines(tmp_path)
        for job_id in JOBS:
            fields = {"job_id": job_id, "ack_subject": "ack", "origin": "then", "seconds": 1}
            deadline = msgspec.convert({**fields, "process": incarnation(runner.pid), "boot": boot_id()}, Deadline)
            deadlines.put(deadline, boot_time() - 2)
        yield Scene(runner, deadlines, FakeEngine())
        runner.kill()


async def test_all_overdue_jobs_are_ended_although_one_removal_fails(scene: Scene) -> None:
    scene.engine.faults = {JOBS[0]: [ZeroDivisionError("the first one")], JOBS[2]: [OSError("the third one")]}
    await scene.watch()
    scene.assert_all_ended()
    assert list(scene.deadlines.all()) == []


async def test_a_disk_that_keeps_the_deadlines_is_told_of_once_a_job_and_holds_nothing_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path, *, missing_ok: bool) -> None:
        raise OSError(errno.EROFS, f"{path} {missing_ok}")

    monkeypatch.setattr(Path, "unlink", unlink)
    with structlog.testing.capture_logs() as said:
        await scene.watch()
    scene.assert_all_ended()
    assert len([line for line in said if line["event"] == "deadline not removed"]) == len(JOBS)


async def test_an_engine_that_is_away_is_told_of_once_a_job(scene: Scene) -> None:
    scene.engine.faults = {job_id: [EngineUnavailableError("away")] * 3 for job_id in JOBS}
    with structlog.testing.capture_logs() as said:
        await scene.watch()
    scene.assert_all_ended()
    events = Counter(line["event"].partition(":")[0] for line in said)
    assert events == {
        "killing the runner": 1,
        "the engine does not remove a container, retrying": len(JOBS),
        "job's containers ended": len(JOBS),
    }


async def test_a_job_that_is_claimed_again_after_its_first_deadline_is_watched(scene: Scene) -> None:
    """The runner was killed between the deadline and the claim, and the job came to the next process of it."""
    earlier = list(scene.deadlines.all())
    for found in earlier:
        scene.deadlines.put(msgspec.structs.replace(found.deadline, process="an earlier one"), found.confirmed)
    watching = asyncio.create_task(scene.watch())
    await until_true(lambda: not any(scene.deadlines.all()))
    scene.engine.left[JOBS[0]] = True
    scene.deadlines.put(earlier[0].deadline, earlier[0].confirmed)
    await watching
    scene.assert_all_ended()


async def test_a_runner_that_is_reaped_meanwhile_stops_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor takes the dead runner's process id away between two removals."""
    remove = scene.engine.remove

    async def removing(container_id: str) -> None:
        scene.runner.kill()
        scene.runner.wait()
        await remove(container_id)

    monkeypatch.setattr(scene.engine, "remove", removing)
    await scene.watch()
    scene.assert_all_ended()


@pytest.mark.parametrize("reader", ["gone", "standing still"])
async def test_a_broken_stderr_stops_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """The runner's is the same, so it may well be why the runner did not end its jobs."""
    reading, writing = os.pipe()
    fill(writing)
    if reader == "gone":
        os.close(reading)
    before = structlog.get_config()
    with os.fdopen(writing, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        logs.configure()
        try:
            await scene.watch()
        finally:
            structlog.configure(**before)
            os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is buffered goes nowhere
    if reader != "gone":
        os.close(reading)
    scene.assert_all_ended()


async def test_the_processes_are_killed_if_something_else_answers_in_the_engines_place(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a proxy with a page of its own. The queue continues soon, and nothing may live until then."""
    (job, *_) = scene.deadlines.all()
    scene.deadlines.put(msgspec.structs.replace(job.deadline, container_id="c" * 64), job.confirmed)
    killed = asyncio.Event()
    monkeypatch.setattr(watchdog, "kill_container", lambda _container_id: killed.set())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n<html>")
        writer.close()

    path = f"{tmp_path}/engine"
    engine = DockerEngine(f"unix://{path}", api_version="1.43")
    async with await asyncio.start_unix_server(answer, path), asyncio.timeout(10), meanwhile(scene.watch(engine)):
        await killed.wait()
    await engine.close()
