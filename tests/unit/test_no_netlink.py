"""What keeps the browser of the tests from hearing of Docker's interfaces."""

import platform
import subprocess
import sys

import pytest

from tests.support import no_netlink

ASKS = """
import errno, socket
socket.socket().close()
try:
    socket.socket(socket.AF_NETLINK)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
IN_A_CHILD = """import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}, reason="the filter is for these"
)
def test_a_program_and_its_children_get_no_netlink_socket_and_all_others() -> None:
    command = [sys.executable, no_netlink.__file__, sys.executable, "-c", IN_A_CHILD, ASKS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "EAFNOSUPPORT\n"
