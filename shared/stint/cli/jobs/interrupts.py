"""Ctrl-C and SIGTERM.

SIGTERM stops the job, and so does Ctrl-C; on a terminal the first Ctrl-C asks before. The next one exits at once.
"""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from rich.console import Console

from stint.cli.show.terminal import sentences
from stint.client import ApiError, ApiRefusedError, JobHandle
from stint.core.errors import StintError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_PAUSE: Final = 1.0
"""Seconds before a kill that Stint did not answer is requested again."""


class Interrupts:
    """Handles signals. As long as no job can exist, the first signal exits at once too.

    `code` is the exit code for the first signal, as in shells: 130 or 143. 0 if there was none.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.code = 0
        self._may_have_a_job = False
        self._job: JobHandle | None = None
        self._detached = False
        self._work: asyncio.Task[int] | None = None
        self._killing: asyncio.Task[None] | None = None
        self._question: _Question | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals during the block. A signal that is ignored stays ignored."""
        loop = asyncio.get_running_loop()
        heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        for number in heeded:
            loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number in heeded:
                loop.remove_signal_handler(number)

    def may_have_a_job(self) -> None:
        """A job may exist from now on: the first signal waits until this is known, and then stops the job."""
        self._may_have_a_job = True

    def kills(self, job: JobHandle) -> None:
        """The job exists: the first signal kills it. If that signal has already come, it is killed at once."""
        self._job = job
        if self.code:
            self._killing = asyncio.create_task(self._kill(job))

    async def around(self, work: Coroutine[Any, Any, int]) -> int:
        """Run the work; returns its result, or the signal's exit code if a signal ended it."""
        self._work = asyncio.create_task(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            if self._detached and self._job:
                self.say(f"job {self._job.id} continues: stint logs -f {self._job.id}")
                return 0
            if not self.code:
                raise
            self._say_what_is_left()
            return self.code
        except StintError as error:
            if self._job:
                self._say_what_is_left()
                if isinstance(error, ApiError) and not self._killing and not _is_gone(error):
                    self.say(f"job {self._job.id} may still run: stint logs -f {self._job.id}")
            raise
        finally:
            if self._killing:
                self._killing.cancel()
                await asyncio.gather(self._killing, return_exceptions=True)

    @contextmanager
    def asking(self, settle: Callable[[], None]) -> Iterator[None]:
        """During the block the first Ctrl-C asks what to do, after `settle`, if there is a terminal to ask on."""
        if not (sys.stdin.isatty() and self.console.is_terminal):
            yield
            return
        self._question = _Question(settle, self.say, {"d": self._detach, "k": partial(self.interrupt, signal.SIGINT)})
        try:
            yield
        finally:
            self._question.close()
            self._question = None

    def _detach(self) -> None:
        self._detached = True
        if self._work:
            self._work.cancel()

    def interrupt(self, number: int) -> None:
        """Handle a signal."""
        if number == signal.SIGINT and not self.code and self._question and self._question.ask():
            return
        again, self.code = bool(self.code), self.code or 128 + number
        if self._work is None:
            return
        if again or not self._may_have_a_job:
            self._work.cancel()
            return
        self.say("stopping the job; Ctrl-C again exits at once")
        if self._job:
            self._killing = asyncio.create_task(self._kill(self._job))

    async def _kill(self, job: JobHandle) -> None:
        """Request the kill until Stint answers, or `around` ends. Each new reason why it fails is said once."""
        said = ""
        while True:
            try:
                return await job.kill()
            except StintError as error:
                if error.sentence != said:
                    said = error.sentence
                    self.say(said)
                if not (isinstance(error, ApiError) and error.temporary):
                    return self.say(f"job {job.id} may still run")
            await asyncio.sleep(_PAUSE)

    def _say_what_is_left(self) -> None:
        if self._may_have_a_job and not self._job:
            self.say("it is not known whether the job was submitted")
        elif self._job and self._killing and not self._killing.done():
            self.say(f"Stint has not answered: job {self._job.id} may still run")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(f"stint: {sentences(text)}", markup=False, highlight=False, soft_wrap=True)


def _is_gone(error: ApiError) -> bool:
    """Whether it says that there is no such job: it was deleted."""
    return isinstance(error, ApiRefusedError) and error.code == HTTPStatus.NOT_FOUND


class _Question:
    """What to do with the job, asked once, and answered by one key."""

    def __init__(
        self, settle: Callable[[], None], say: Callable[[str], None], answers: Mapping[str, Callable[[], None]]
    ) -> None:
        self._settle, self._say, self._answers = settle, say, answers
        self._before: list[Any] | None = None
        self._asked = False

    def ask(self) -> bool:
        """Ask; False if that has been done before."""
        if self._asked:
            self.close()
            return False
        self._asked = True
        self._settle()
        self._say("d leaves the job running, k or Ctrl-C kills it, any other key continues to watch")
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin, termios.TCSANOW)
        asyncio.get_running_loop().add_reader(sys.stdin, self._read)
        return True

    def _read(self) -> None:
        key = os.read(sys.stdin.fileno(), 1).decode(errors="replace").lower()
        self.close()
        answer = self._answers.get(key)
        self._asked = answer is not None
        if answer:
            answer()

    def close(self) -> None:
        """Give the terminal back."""
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            termios.tcsetattr(sys.stdin, termios.TCSANOW, self._before)
            self._before = None
