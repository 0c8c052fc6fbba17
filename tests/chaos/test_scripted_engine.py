"""The scripted engine behaves as the port says, for the chaos runs rest on it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from stint.core.errors import EngineError, EngineUnavailableError
from stint.core.names.headers import LABEL_JOB
from stint_runner.engine.port import ContainerSpec
from tests.chaos.scripted_engine import ScriptedEngine, scripted_engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine(tmp_path / "engine") as engine:
        yield engine


def shell(script: str, job: str = "a") -> ContainerSpec:
    return ContainerSpec(image="any", command=("sh", "-c", script), labels={LABEL_JOB: job}, env=["WORD=hello"])


async def started(engine: ScriptedEngine, script: str) -> str:
    container = await engine.create(shell(script))
    await engine.start(container)
    return container


async def test_a_container_runs_and_its_output_is_whole(engine: ScriptedEngine) -> None:
    container = await started(engine, "echo $WORD; echo wrong >&2; exit 3")
    pieces = [(piece.stream, piece.data) async for piece in engine.output(container)]
    assert sorted(pieces) == [("stderr", b"wrong\n"), ("stdout", b"hello\n")]
    assert (await engine.wait(container)).code == 3


async def test_output_comes_while_it_runs(engine: ScriptedEngine) -> None:
    container = await started(engine, "echo up; exec sleep 600")
    async with asyncio.timeout(10):
        assert (await anext(aiter(engine.output(container)))).data == b"up\n"
    await engine.kill(container)
    assert (await engine.wait(container)).code == 137


async def test_stop_ends_what_ignores_it_and_all_that_it_started(engine: ScriptedEngine, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    container = await started(engine, f"trap '' TERM; mkfifo {fifo}; echo up; (exec 8>{fifo}; sleep 600) & sleep 600")
    async with asyncio.timeout(10):
        await anext(aiter(engine.output(container)))
        assert await engine.stop(container, 0.1)
        assert not await engine.stop(container, 0.1)
        reader = await asyncio.create_subprocess_exec("cat", fifo, stdout=asyncio.subprocess.PIPE)
        closer = await asyncio.create_subprocess_exec("sh", "-c", f": >{fifo}")
        assert (await reader.communicate())[0] == b"", "nobody holds the other end any more"
        with suppress(ProcessLookupError):  # it waits for a reader if a writer that was just killed had let `cat` go
            closer.kill()
        await closer.wait()


async def test_a_removed_container_is_gone_and_cannot_be_started(engine: ScriptedEngine) -> None:
    created, running = await engine.create(shell("true", "b")), await started(engine, "sleep 600")
    assert [info.started for info in await engine.find({LABEL_JOB: "a"})] == [True]
    assert {info.container_id for info in await engine.find({LABEL_JOB: ""})} == {created, running}
    waiting = asyncio.create_task(engine.wait(created))
    for container in (created, running, created):
        await engine.remove(container)
        await engine.kill(container)
    with pytest.raises(EngineError):
        await engine.start(created)
    with pytest.raises(EngineError):
        await engine.put_archive(created, b"")
    waiting.cancel()
    assert not await engine.find({})


async def test_containers_outlive_their_client_and_not_their_engine(tmp_path: Path) -> None:
    folder, mark = tmp_path / "engine", tmp_path / "mark"
    script = (
        "import asyncio, pathlib, os; from tests.chaos.scripted_engine import *; e = ScriptedEngine("
        f"pathlib.Path({str(folder)!r})); c = asyncio.run(e.create(ContainerSpec(image='x', command=('sh', '-c', "
        f"'echo $$ >{mark}; exec sleep 600')))); asyncio.run(e.start(c)); os.kill(os.getpid(), 9)"
    )
    async with scripted_engine(folder) as engine:
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
        assert await client.wait() == -9
        found = (await engine.find({}))[0]
        assert found.started
        waiting = asyncio.create_task(engine.wait(found.container_id))
        assert not (await asyncio.wait({waiting}, timeout=0.5))[0], "it lives"
    with pytest.raises(EngineUnavailableError):
        await waiting
    with pytest.raises(EngineUnavailableError):
        await engine.info()
