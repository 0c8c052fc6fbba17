"""Ports on loopback for the servers of tests.

A server that is killed keeps its port and starts on it again; meanwhile the port is free. And a port that was chosen is
free until its server listens. So each port is given once, and only to one of the processes in which pytest-xdist runs
tests at the same time.
"""

import os
import random
from collections.abc import Iterator
from typing import Final

from stint.cli.dev.servers import PORTS, is_free

_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OURS: Final = PORTS[_WORKER::_WORKERS]
_left: Final = iter(random.sample(_OURS, len(_OURS)))


def free_ports() -> Iterator[int]:
    """Each another one than any before."""
    return filter(is_free, _left)


def free_port() -> int:
    return next(free_ports())
