"""How a service's log looks on a terminal."""

import os
import subprocess
import sys

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
