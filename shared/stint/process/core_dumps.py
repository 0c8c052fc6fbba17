"""Keeps a process's memory, which holds tokens and opened payloads, out of core dumps."""

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""Of prctl(2)."""


def prevent_core_dumps() -> None:
    """Write no core dump if this process crashes, and let no other user's process read its memory or environment.

    The limit of 0 is inherited by child processes, but the kernel ignores it if `core_pattern` names a program. The
    flag counts in both cases, and only until the next exec. On systems other than Linux only the limit is set.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
