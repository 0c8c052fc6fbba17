"""Whether the engine's disk has room, as jobs find it: no engine says so."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from stint.core.errors import EngineError, UnfitError
from stint_runner.engine.port import PullError
from stint_runner.linux import boot_time

FULL: Final = "The container engine's disk is full."
PAUSE: Final = 30.0  # seconds without a claim after a job that found no room. The next one shows whether there is some
_NO_SPACE: Final = ("no space left on device", "no space left on device: unknown")
"""The ends of Docker's sentences about it: Go's text for ENOSPC, to which containerd adds that it has no code for it.
Errors about what a job sent can end like this, too: with its own words, or because a file of its content has an
attribute for which no disk has room. So only the calls count that Stint makes on its own account, see `needed`, whose
errors end with nothing that the job wrote."""
_PULL: Final = re.compile(
    r"(write /|failed to copy: failed to send write: write /|failed to (register|extract) layer\b(?!.*setxattr ))",
    re.DOTALL,
)
"""How Docker begins to say it of a pull, when it downloads or unpacks. A registry's own words never come first, and a
layer's file may have an attribute for which no disk has room."""


class EngineSpace:
    """Keeps a runner with a full disk from failing one job after another that other runners could run."""

    def __init__(self) -> None:
        self._full_until = 0.0

    def check(self) -> None:
        """Called before a job is examined. Raises UnfitError if the disk is full, and the pause is not over yet."""
        if boot_time() < self._full_until:
            raise UnfitError(FULL)

    def take_turn(self) -> None:
        """Called before each claim. Raises UnfitError while the disk is full, but passes one job after each pause."""
        self.check()
        if self._full_until:
            self._full_until = boot_time() + PAUSE

    def made(self) -> None:
        """A job's container was made."""
        self._full_until = 0.0

    @contextmanager
    def needed(self) -> Iterator[None]:
        """A call that makes or starts a job's container, or gets its image: its error says whether the disk is full."""
        try:
            yield
        except EngineError as error:
            if _says_full(error):
                self._full_until = boot_time() + PAUSE
            raise

    def missing(self) -> str:
        """For the runner's readiness: `FULL`, or ""."""
        return FULL if self._full_until else ""


def _says_full(error: EngineError) -> bool:
    if isinstance(error, PullError):
        return error.last.endswith(_NO_SPACE) and _PULL.match(error.last) is not None
    return error.sentence.endswith(_NO_SPACE)
