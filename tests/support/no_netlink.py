"""Start a program that does not hear of network interfaces that come and go: `python -m … PROGRAM ARGUMENT...`.

Each container adds an interface to the machine and removes it again. Chromium then gives up every request that waits
for a connection, also to 127.0.0.1, with ERR_NETWORK_CHANGED, and no option of it prevents that. It hears of interfaces
through a netlink socket, and takes the network for unchanging where it gets none. So the kernel is asked to refuse this
kind of socket to the program and its children, which needs no privilege.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

_SOCKET_CALL: Final = {"x86_64": 41, "aarch64": 198}
"""The number of the system call `socket`. On other machines nothing is refused."""
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVILEGES = 22, 2, 38
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EAFNOSUPPORT
_LOAD, _SKIP_UNLESS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_CALL, _FIRST_ARGUMENT = 0, 16
"""Where the kernel puts them for a filter."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _steps(call: int) -> Sequence[bytes]:
    """Each is: what to do, how many steps to skip if a value is equal and if it is not, and the value."""
    found = (
        (_LOAD, 0, 0, _CALL),
        (_SKIP_UNLESS_EQUAL, 0, 3, call),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_SKIP_UNLESS_EQUAL, 0, 1, socket.AF_NETLINK),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    return [struct.pack("HBBI", *step) for step in found]


def refuse_netlink() -> None:
    """From now on, in this process and in those that it starts."""
    if (call := _SOCKET_CALL.get(platform.machine())) is None:
        return
    steps = _steps(call)
    program = _Program(len(steps), b"".join(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for option in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*option):
            raise OSError(ctypes.get_errno(), "the kernel does not take the filter")


if __name__ == "__main__":
    refuse_netlink()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the program is whatever is asked for
