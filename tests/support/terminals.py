"""The command line as processes: in a pipe, and on a terminal."""

import asyncio
import codecs
import fcntl
import os
import select
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing

import httpx
from typer.testing import CliRunner
from typer.testing import Result as CommandResult

from stint.cli.app import app
from tests.support.stack import STINT, Result, finished, program

ROWS = 24
PATIENCE = 60.0
"""Seconds for whatever a process does: a busy machine takes long to start one."""


async def invoked(http: httpx.AsyncClient, *arguments: str, **settings: str) -> CommandResult:
    """Run a command for this client's API in this process."""
    env = {"STINT_URL": str(http.base_url), "STINT_TOKEN": http.headers["X-Auth-Token"], **settings}
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env, prog_name="stint")


async def command(environment: Mapping[str, str], *arguments: str, stdin: bytes | None = None) -> Result:
    """Run a command in pipes, to its end."""
    return await finished(STINT, *arguments, env=environment, stdin=stdin or b"", seconds=PATIENCE)


class Terminal:
    """The other end of a process's terminal. `shown` is all that the process wrote, escape sequences too."""

    def __init__(self, process: Process, end: int) -> None:
        self.process, self._end = process, end
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode  # a read can end in a character
        self._open = True
        self.shown = ""

    async def until(self, words: str) -> None:
        while words not in self.shown:
            await self.more()

    async def more(self) -> None:
        async with asyncio.timeout(PATIENCE):
            assert await self._read(), self.shown

    async def ended(self) -> int:
        """Read until the process ends; returns its exit code as a shell shows it."""
        async with asyncio.timeout(PATIENCE):
            while await self._read():
                pass
            code = await self.process.wait()
        return code if code >= 0 else 128 - code

    async def _read(self) -> bool:
        """Read what comes next; False if the process has closed the terminal."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._end, ready.set_result, None)
        try:
            await ready
        finally:
            loop.remove_reader(self._end)
        try:
            self.shown += self._decode(os.read(self._end, 65536))
        except OSError:
            return False
        return True

    def reads(self, words: str) -> bool:
        while select.select([self._end], [], [], 0)[0]:
            self.shown += self._decode(os.read(self._end, 4096))
        return words in self.shown

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def close(self) -> None:
        """Take the terminal away. Safe to repeat."""
        if self._open:
            self._open = False
            os.close(self._end)

    def resize(self, columns: int) -> None:
        """Change its width; the process is told by a signal."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(size)


_LEAD = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the process's controlling terminal, from which Ctrl-C comes.

The process heeds it and the terminal's end, though the tests may have been told to ignore theirs (`nohup`).
"""


@asynccontextmanager
async def terminal(environment: Mapping[str, str], *arguments: str, columns: int = 80) -> AsyncIterator[Terminal]:
    """A command on a terminal of its own."""
    end, own = os.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    lead = (sys.executable, "-c", _LEAD, str(STINT), *arguments)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), own)
    async with program(*lead, env=environment, start_new_session=True, **pipes) as process:
        os.close(own)
        with closing(Terminal(process, end)) as shown:
            yield shown
