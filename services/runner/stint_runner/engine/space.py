"""Whether the engine's disk has room, as jobs find it: no engine says so."""

from typing import Final

from stint.core.errors import UnfitError
from stint_runner.linux import boot_time

FULL: Final = "The container engine's disk is full."
PAUSE: Final = 30.0
"""Seconds without a claim after a job that found no room. The next one then shows whether there is some."""
_NO_SPACE: Final = ("no space left on device", "no space left on device: unknown")
"""The ends of Docker's sentences about it: Go's text for ENOSPC, to which containerd adds that it has no code for it.
Nothing that a job names stands there, but a registry can say the same."""


class EngineSpace:
    """Keeps a runner with a full disk from failing one job after another that other runners could run."""

    def __init__(self) -> None:
        self._full_until = 0.0

    def check(self) -> None:
        """Called before each claim. While the disk counts as full, one job after each pause passes.

        Raises:
            UnfitError: the disk is full.
        """
        if not self._full_until:
            return
        if boot_time() < self._full_until:
            raise UnfitError(FULL)
        self._full_until = boot_time() + PAUSE

    def made(self) -> None:
        """A job's container was made."""
        self._full_until = 0.0

    def not_made(self, error: str) -> None:
        """A job's container was not made or not started, with this error of the job."""
        if error.endswith(_NO_SPACE):
            self._full_until = boot_time() + PAUSE

    def missing(self) -> str:
        """For the runner's readiness: `FULL`, or ""."""
        return FULL if self._full_until else ""
