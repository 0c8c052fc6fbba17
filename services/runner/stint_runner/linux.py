"""What depends on Linux: clocks, processes, and the return of memory to the system."""

import ctypes
import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_START_TIME: Final = 19  # its place among the fields behind a process's name, in ticks since boot (proc_pid_stat(5))
_MMAP_THRESHOLD: Final = -3  # `M_MMAP_THRESHOLD` of mallopt(3)
LARGE: Final = 256 * 1024  # bytes from which on a block is returned at once


def boot_time() -> float:
    """Seconds since the machine started, including its sleep: the same for all processes, and after their restarts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """Identifies this start of the machine; "" if the kernel does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def incarnation(pid: int) -> str:
    """A name of a process that no later one has: a container that restarts gives out the same ids again.

    Raises ProcessLookupError if there is no such process.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        raise ProcessLookupError from None
    return f"{pid}-{fields[_START_TIME]}"


def kill_container(container_id: str) -> int:
    """SIGKILL the processes whose control group bears the container's name; returns how many.

    0 for a container on another machine's engine: this process cannot see its processes.
    """
    pids = [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]
    return sum(_kill(pid, container_id) for pid in pids if _is_of(pid, container_id))


def _is_of(pid: int, container_id: str) -> bool:
    try:
        return container_id in (_PROC / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _kill(pid: int, container_id: str) -> bool:
    """Check again with a handle on the process: by now the id may be another's."""
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
    """Have glibc return the memory of payloads when they are freed. Without glibc this does nothing.

    By default glibc keeps large blocks once it has freed one.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, LARGE)
