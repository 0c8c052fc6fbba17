"""Ties a program to the process that starts it: when that process dies, the program gets a SIGTERM.

Run as a program (with the parent's process id and a command), it asks the kernel for that signal and executes the
command. A separate process does this because code between fork and exec is not safe in a parent with threads. It works
on Linux only.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>. Outlives exec; counts from the death of the parent's thread that forked."""


def tethered(command: Sequence[str]) -> list[str]:
    """The command that starts `command` tied to this process. The thread that starts it must live as long."""
    if sys.platform != "linux":
        return list(command)
    # Isolated and without site-packages: 10 ms instead of 40, and the program's environment does not affect it.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: str, *command: str) -> None:
    """Execute the command in place of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.stderr.write(f"not tied to its parent: {os.strerror(ctypes.get_errno())}\n")
    if os.getppid() != int(parent):
        sys.exit("its parent died before it started")
    try:
        os.execv(command[0], command)  # noqa: S606 - a list, and no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
