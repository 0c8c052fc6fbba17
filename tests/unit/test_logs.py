"""What a service asks of the kernel, how its log looks on a terminal, and what becomes of it where nobody reads it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stint.process.service import BROKER_CLOSED
from stint.process.signals import on_signals
from tests.support.pipes import fill
from tests.support.stack import program

_CODE = r"""
import structlog
from stint.process.logs import configure
configure()
structlog.get_logger().info("asked to drain", by="a\x1b[2J\x9b31m\u202e\nb")
"""


def test_what_others_wrote_cannot_move_a_terminals_cursor() -> None:
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", _CODE], stderr=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1().decode()
    assert r"'a\x1b[2J\x9b31m\u202e\nb'" in shown
    assert "\x1b[2J" not in shown


_TWICE = """
import sys
import structlog
from stint.process.logs import configure
configure()
for event in ("unread", "unread"):
    structlog.get_logger().info(event)
print("continues", flush=True)
sys.stdin.read()
structlog.get_logger().info("x" * 9000)
"""


def test_a_reader_that_stands_still_stops_nothing_and_learns_what_it_has_missed() -> None:
    reading, writing = os.pipe()
    fill(writing)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _TWICE], stdin=pipe, stdout=pipe, stderr=writing) as service:
        os.close(writing)
        assert service.stdin
        assert service.stdout
        assert service.stdout.readline() == b"continues\n"
        assert set(os.read(reading, 1 << 20)) == set(b".")
        service.stdin.close()
        with os.fdopen(reading, encoding="utf-8") as log:
            said = log.read()
    assert "stint: lines missing from the log here, because nobody read it: 2\n" in said
    assert '"event": "' + "x" * 9000 in said
    assert "unread" not in said


def test_a_reader_that_stands_still_keeps_no_process_from_its_end() -> None:
    reading, writing = os.pipe()
    fill(writing)
    code = "from stint.process import service; service.abandon(service.BrokerClosedError())"
    ended = subprocess.run([sys.executable, "-c", code], stderr=writing, check=False)
    os.close(reading)
    os.close(writing)
    assert ended.returncode == BROKER_CLOSED


_LONG = """
import structlog
from stint.process import logs
logs.PATIENCE_MS = 60_000  # the test may be slow to read on a busy machine
logs.configure()
for _ in range(200):
    structlog.get_logger().info("\N{LATIN SMALL LETTER E WITH ACUTE}" * 600)
"""


def test_lines_of_processes_that_share_a_log_stay_whole() -> None:
    reading, writing = os.pipe()
    services = [subprocess.Popen([sys.executable, "-c", _LONG], stderr=writing) for _ in range(2)]
    os.close(writing)
    with os.fdopen(reading, "rb") as log:
        lines = [json.loads(line) for line in log]
    assert [service.wait() for service in services] == [0, 0]
    assert len(lines) == 400


_SERVICE = """
import structlog
from stint.process.service import run
from stint.process.settings import Settings

async def serve(_settings):
    for level in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), level)(f"a line of {level}")

run(Settings, serve)
"""


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("", 3), ("error", 1)])
def test_an_operator_chooses_the_least_that_is_logged(level: str, count: int) -> None:
    env = {**os.environ, "STINT_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", _SERVICE], env=env, capture_output=True, check=True)
    assert done.stderr.count(b"a line of") == count


@pytest.fixture
def hang_up() -> Iterator[Callable[[signal.Handlers], object]]:
    """Sets what a SIGHUP does to this process, whatever the tests were started with (`nohup`)."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda disposition: signal.signal(signal.SIGHUP, disposition)
    signal.signal(signal.SIGHUP, before)


async def test_a_hang_up_stops_a_service_and_one_that_is_ignored_stays_ignored(
    hang_up: Callable[[signal.Handlers], object],
) -> None:
    hang_up(signal.SIG_DFL)
    stopping = asyncio.Event()
    async with on_signals(stopping.set), asyncio.timeout(10):
        os.kill(os.getpid(), signal.SIGHUP)
        await stopping.wait()
    hang_up(signal.SIG_IGN)
    stopping.clear()
    async with on_signals(stopping.set), asyncio.timeout(10):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        await stopping.wait()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) & 1 << number - 1)


@pytest.mark.parametrize("ignored", [False, True])
async def test_a_watchdog_ignores_a_hang_up_that_its_runner_ignores(tmp_path: Path, ignored: bool) -> None:
    disposition = "SIG_IGN" if ignored else "SIG_DFL"
    become = f"import os, sys; from signal import *; signal(SIGHUP, {disposition}); os.execv(sys.argv[1], sys.argv[1:])"
    command = ["-c", become, sys.executable, "-m", "stint_runner.watchdog", str(tmp_path), str(os.getpid())]
    async with program(sys.executable, *command, stdout=asyncio.subprocess.PIPE) as process, asyncio.timeout(30):
        assert process.stdout is not None
        assert await process.stdout.readline()
        assert ignores(process.pid, signal.SIGHUP) == ignored


ALLOWED = "import ctypes, resource as r; r.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2)"
PREVENTED = "from stint.process.core_dumps import prevent_core_dumps; prevent_core_dumps()"
TOLD = "print(r.getrlimit(r.RLIMIT_CORE)[0] == 0, ctypes.CDLL(None).prctl(3))"
"""Whether the limit is 0, and the flag that PR_GET_DUMPABLE reads. A crash leaves a core only with neither: core(5)."""


@pytest.mark.parametrize(("prepared", "told"), [("0", "False 1"), (PREVENTED, "True 0")])
def test_a_service_asks_for_no_core_dump(prepared: str, told: str) -> None:
    """The limit does not count if `core_pattern` names a program, but then the flag does."""
    code = f"{ALLOWED}; {prepared}; {TOLD}"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    limited = found.stdout.strip().replace("True 1", "False 1")  # where no process of this machine may dump
    assert limited == told
