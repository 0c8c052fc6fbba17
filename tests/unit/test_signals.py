"""What a process asks of the kernel: which signals reach it, and that a crash leaves none of its memory behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stint.process.signals import on_signals
from tests.support.stack import program


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
