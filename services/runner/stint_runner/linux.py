"""What only Linux tells or does: clocks, processes, and memory that goes back to it."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_START_TIME: Final = 19
"""Its place among the fields behind a process's name, in ticks since the machine's start (proc_pid_stat(5))."""
_MMAP_THRESHOLD: Final = -3
"""`M_MMAP_THRESHOLD` of mallopt(3)."""
LARGE: Final = 256 * 1024
"""Bytes from which on memory goes back to the system at once."""


def boot_time() -> float:
    """Seconds since the machine started, its sleep included: the same for all processes, and after their restarts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Tells one start of the machine from the next; "" where the kernel does not say."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def incarnation(pid: int) -> str:
    """A name for a process that no later one of the same id has: in a container ids come again after a restart.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        raise ProcessLookupError from None
    return f"{pid}-{fields[_START_TIME]}"


def kill_container(container_id: str) -> int:
    """SIGKILL every process on this machine whose control group bears the container's name; returns how many.

    None where the engine is on another machine, or this process sees only its own container's.
    """
    return sum(_kill(pid, container_id) for pid in _processes(container_id))


def _processes(container_id: str) -> Iterator[int]:
    for path in _PROC.iterdir():
        if path.name.isdigit() and _is_of(int(path.name), container_id):
            yield int(path.name)


def _is_of(pid: int, container_id: str) -> bool:
    try:
        return container_id in (_PROC / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _kill(pid: int, container_id: str) -> bool:
    """Through a handle, and looked at again with it in hand: a process id may be another's by now."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _is_of(pid, container_id):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def return_large_memory() -> None:
    """Let this process shrink again when a payload is let go of. Does nothing where the C library is not glibc.

    Otherwise glibc would, once it has seen one large block given back, keep such blocks for later.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, LARGE)
