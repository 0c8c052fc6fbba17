"""The parts of `stint dev` that a whole stack cannot be brought to show: who may be left, and for how long."""

import asyncio
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stint.cli.dev import children
from stint.cli.dev.children import Child, ChildError, DataDir, _tethered, claim
from stint.cli.dev.command import _say_ready
from stint.cli.dev.servers import free_ports
from stint.cli.dev.stack import Stack, runner_stop
from stint.core.errors import ConfigError
from stint_runner.__main__ import CLEAN_UP
from tests.support.stack import gone, program
from tests.support.waiting import until_true

Process = asyncio.subprocess.Process

SLEEP = "/bin/sleep"
YES, NO = partial(asyncio.sleep, 0, result=True), partial(asyncio.sleep, 0, result=False)
CREDENTIALS = {"STINT_RUNNER_ROLE_ID": "r", "STINT_RUNNER_SECRET_ID": "s", "STINT_ROLE_ID": "j"}


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[DataDir]:
    async with AsyncExitStack() as resources:
        yield claim(tmp_path / "data", resources)


class Gate:
    """In front of all that is started; once closed, it holds up the start of a `sleep` until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Process] = []
        self.closed = False
        self.held, self.opened, self.passed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._real = asyncio.create_subprocess_exec
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self._create)

    async def _create(self, *command: str, **options: Any) -> Process:
        hold = self.closed and SLEEP in command
        if hold:
            self.held.set()
            await self.opened.wait()
        process = await self._real(*command, **options)
        self.started.append(process)
        if hold:
            self.passed.set()
        return process

    async def open_during(self, stopping: Coroutine[Any, Any, None]) -> None:
        """Let the start go on when the stop can do no more without it, and wait for both."""
        task = asyncio.create_task(stopping)
        await asyncio.wait({task}, timeout=0.05)
        self.opened.set()
        await task
        await self.passed.wait()

    def left(self) -> list[int]:
        return [process.pid for process in self.started if process.returncode is None]


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    for process in gate.started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        async with AsyncExitStack() as resources:
            claim(folder, resources)
    return refused.value.sentence


def _child(data_dir: DataDir, *command: str, name: str = "sleeper-1", ready: Any = YES) -> Child:
    return Child(name, command or (SLEEP, "600"), {"PATH": os.defpath}, data_dir, ready)


async def test_a_stop_while_it_is_started_again_leaves_no_process(
    data_dir: DataDir, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_PAUSE", 0)
    child = _child(data_dir)
    await child.start()
    gate.closed = True
    gate.started[0].kill()
    await gate.held.wait()
    await gate.open_during(child.stop())
    assert gate.left() == []
    assert not child.pid_path.exists()


async def test_a_child_whose_pid_cannot_be_written_is_started_again_all_the_same(
    data_dir: DataDir, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_PAUSE", 0)
    written = [asyncio.Event(), asyncio.Event(), asyncio.Event()]

    def write(*_: object) -> None:
        written[len(gate.started) - 1].set()
        if len(gate.started) == 2:
            raise ConfigError("There is no room.")

    monkeypatch.setattr(children, "write_private", write)
    child = _child(data_dir)
    await child.start()
    for number in range(2):
        gate.started[number].kill()
        await written[number + 1].wait()
    await child.stop()
    assert (len(gate.started), gate.left()) == (3, [])


async def test_a_stopped_child_is_not_started_again(data_dir: DataDir, gate: Gate) -> None:
    child = _child(data_dir)
    await child.stop()
    with pytest.raises(ChildError, match="stopped before"):
        await child.start()
    assert gate.started == []


async def test_a_part_that_fails_leaves_none_that_was_still_coming_up(data_dir: DataDir, gate: Gate) -> None:
    stack = Stack(data_dir)
    failing = _child(data_dir, "/bin/sh", "-c", "echo no luck >&2; exit 3", name="failing-1", ready=NO)
    gate.closed = True
    with pytest.raises(ChildError, match="failing-1 ended at once: no luck"):
        await stack._start([failing, _child(data_dir)])  # noqa: SLF001 - `start` brings up what cannot be held up
    await gate.open_during(stack.stop())
    assert len(gate.started) == 2
    assert gate.left() == []


@pytest.mark.parametrize(("drain", "grace"), [("", ""), ("100", "50"), ("0", "0.5")])
def test_a_runner_may_take_as_long_to_stop_as_its_settings_let_it(drain: str, grace: str) -> None:
    settings = CREDENTIALS | {"STINT_DRAIN": drain, "STINT_KILL_GRACE": grace}
    longest = float(drain or 30) + float(grace or 15) + CLEAN_UP
    assert longest < runner_stop(settings) <= longest + 15


PARENT = """
import asyncio, sys
from contextlib import AsyncExitStack
from pathlib import Path
from stint.cli.dev.children import Child, claim

async def main() -> None:
    async def ready() -> bool: return True
    async with AsyncExitStack() as resources:
        data_dir = claim(Path(sys.argv[1]), resources)
        await Child("sleeper-1", ["/bin/sleep", "600"], {}, data_dir, ready).start()
        print("started", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_child_does_not_start_whose_parent_was_killed_before_it_could_ask_to_be_told() -> None:
    """Here its parent is a shell, as it would be the init process then."""
    shell = ["sh", "-c", '"$@"; true', "sh"]
    for command, printed in ((["echo", "ran"], b"ran\n"), (_tethered(["echo", "ran"]), b"")):
        child = await asyncio.create_subprocess_exec(*shell, *command, stdout=asyncio.subprocess.PIPE)
        assert (await child.communicate())[0] == printed


async def test_a_child_that_outlives_a_killed_parent_keeps_the_data_directory(tmp_path: Path) -> None:
    """The child is frozen: the signal that it gets when its parent dies waits for it."""
    folder = tmp_path / "data"
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    async with program(sys.executable, "-c", PARENT, folder, **pipes) as parent:
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"started\n"
        sleeper = int((folder / "run" / "sleeper-1.pid").read_text())
        refusal = (
            f"Another `stint dev` (process {parent.pid}) uses {folder}. "
            f"If it was killed, end the processes that it left: their ids are in {folder / 'run'}."
        )
        assert await _refusal(folder) == refusal
        os.kill(sleeper, signal.SIGSTOP)
        try:
            status = Path(f"/proc/{sleeper}/status")
            await until_true(lambda: "\nState:\tT" in status.read_text())  # else it may see its SIGTERM first
            parent.kill()
            await parent.wait()
            assert await _refusal(folder) == refusal
        finally:
            os.kill(sleeper, signal.SIGCONT)
    await gone(sleeper)
    async with AsyncExitStack() as resources:
        claim(folder, resources)
        assert [file.name for file in (folder / "run").iterdir()] == ["dev.lock"]


def test_each_part_gets_a_port_of_its_own_that_no_client_gets() -> None:
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", next(free_ports())))
        given = [*free_ports()]
        assert taken.getsockname()[1] not in given
    assert len(set(given)) == len(given)
    assert max(given) < first_of_clients


@pytest.mark.parametrize("known", [False, True])
def test_what_is_shown_can_be_typed_also_where_a_shell_does_not_find_stint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, known: bool
) -> None:
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", scripts if known else "/nonexistent")
    _say_ready("http://127.0.0.1:1", Path("/stint.env"), Path("/log"))
    path = "" if known else f"; PATH={scripts}:$PATH"
    said = capsys.readouterr().out
    assert f"\n  set -a; . /stint.env; set +a{path}\n" in said
    assert "TOKEN" not in said, "whoever lists processes would see it"
