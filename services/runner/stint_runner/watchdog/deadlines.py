"""Until when each job of a runner may run, on disk: for its watchdog, and for the runner itself after a restart.

One file a job. When its lease was last confirmed is the file's modification time, in seconds since the machine started:
to set it needs no room on the disk.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from stint.core.codec import decode, encode
from stint.core.errors import UndecodableError, UnfitError
from stint_runner.linux import boot_id
from stint_runner.watchdog.private_folder import ForeignFolderError, make_private

log = structlog.get_logger()

_NANOSECONDS = 10**9


class StateError(UnfitError):
    """The runner's state folder cannot be used."""


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job that was claimed.

    Attributes:
        job_id: 24 hex digits.
        token: its queue's token.
        ack_subject: of its delivery.
        origin: of its delivery (see `stint.ports.Delivery`).
        process: the runner that has it (see `stint_runner.linux.incarnation`).
        boot: the machine's start that the time counts from.
        seconds: W: for so long after the last confirmation it may run.
        hold: it may run on for ever; its queue waits.
        container_id: the engine's id, "" until it has a container.
        secrets_digest: of its secrets file (see `stint_runner.inputs.secretfile.Seal`), "" until it has a container.
    """

    job_id: str
    token: str
    ack_subject: str
    origin: str
    process: str
    boot: str
    seconds: float
    hold: bool = False
    container_id: str = ""
    secrets_digest: str = ""


class Noted(msgspec.Struct, frozen=True):
    """A deadline as it stands on disk, and the moment at which its lease was last confirmed."""

    deadline: Deadline
    confirmed: float

    @property
    def due(self) -> float:
        """When the job must be dead, by `linux.boot_time`."""
        return self.confirmed + self.deadline.seconds


class Deadlines:
    """The deadlines of one runner, in a folder that it has for itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = boot_id()
        self._lock: int | None = None

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def open(self) -> bool:
        """Make the folder and take it. False if another runner of this name has it.

        Raises:
            StateError: it cannot be made, or another user could change what is in it.
        """
        try:
            make_private(self._folder)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"STINT_STATE_DIR: {self._folder} cannot be used: {error.strerror}.") from None
        except ForeignFolderError as error:
            raise StateError(f"STINT_STATE_DIR: {error.sentence}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put(self, deadline: Deadline, confirmed: float) -> None:
        """Note a deadline, or another state of it.

        Raises:
            StateError: it cannot be written.
        """
        path = self._path(deadline.job_id)
        unfinished = path.with_suffix(".new")
        try:
            unfinished.write_bytes(encode(deadline))
            _stamp(unfinished, confirmed)
            unfinished.replace(path)
        except OSError as error:
            raise StateError(f"STINT_STATE_DIR: {self._folder} cannot be written: {error.strerror}.") from None

    def confirm(self, job_id: str, confirmed: float) -> None:
        """The job's lease was confirmed."""
        try:
            _stamp(self._path(job_id), confirmed)
        except OSError as error:  # the watchdog will end the job: it must not run unwatched
            log.error("deadline not written", job=job_id, error=error.strerror)  # noqa: TRY400 - a sentence says it

    def drop(self, job_id: str) -> None:
        """The job has no container any more. Safe to repeat."""
        self._path(job_id).unlink(missing_ok=True)

    def get(self, job_id: str) -> Noted | None:
        """A job's deadline, None if there is none, or of another start of the machine."""
        path = self._path(job_id)
        try:
            confirmed = path.stat().st_mtime_ns / _NANOSECONDS
            deadline = decode(path.read_bytes(), Deadline)
        except (OSError, UndecodableError):
            return None
        return Noted(deadline, confirmed) if deadline.boot == self._boot else None

    def all(self) -> Iterator[Noted]:
        """All of them."""
        for path in sorted(self._folder.glob("*.json")):
            if noted := self.get(path.stem):
                yield noted

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def _stamp(path: Path, moment: float) -> None:
    nanoseconds = int(moment * _NANOSECONDS)
    os.utime(path, ns=(nanoseconds, nanoseconds))


def state_folder(setting: str, runner: str) -> Path:
    """The runner's folder: in the one that is set, else in one that does not outlive the machine's start."""
    if setting:
        return Path(setting) / runner
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "stint" / runner
    if os.access("/run", os.W_OK):
        return Path("/run/stint") / runner
    return Path(tempfile.gettempdir()) / f"stint-{os.getuid()}" / runner
