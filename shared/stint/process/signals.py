"""Signals that stop a process."""

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that stop a service. A process gets SIGHUP when its terminal is closed."""


@asynccontextmanager
async def on_signals(callback: Callable[[], object]) -> AsyncIterator[None]:
    """Call `callback` for each of these signals during the block. A SIGHUP that is ignored (`nohup`) stays ignored."""
    loop = asyncio.get_running_loop()
    handled = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]

    def handle() -> None:
        _drop_closed_output()
        callback()

    for number in handled:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _drop_closed_output() -> None:
    """Redirect standard output and error to nowhere if they are closed: a write would raise during the shutdown."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    closed = [descriptor for descriptor, event in poll.poll(0) if event & (select.POLLHUP | select.POLLERR)]
    for descriptor in closed:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), descriptor)
