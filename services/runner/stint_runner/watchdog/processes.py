"""Processes of this machine: which one is which, and those of a container where its engine does not answer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_START_TIME = 19
"""Its place among the fields behind a process's name, in ticks since the machine's start (proc_pid_stat(5))."""


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
