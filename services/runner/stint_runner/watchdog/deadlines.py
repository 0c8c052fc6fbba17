"""The deadlines of a runner's jobs, on disk: for its watchdog, and for the runner itself after a restart.

One file for each job. The time of the lease's last confirmation is the file's modification time, in seconds since the
machine started: setting it needs no space on the disk.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from stint.core.codec import decode, encode
from stint.core.errors import UndecodableError, UnfitError
from stint_runner.linux import boot_id, incarnation

log = structlog.get_logger()

_NANOSECONDS = 10**9

UNWATCHED: Final = "The watchdog does not run."


class StateError(UnfitError):
    """The runner's state folder cannot be used."""


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """The deadline of a job that was claimed, and what its runner needs to adopt the job after a restart."""

    job_id: str
    ack_subject: str
    origin: str  # of its delivery (see `stint.ports.Delivery`)
    process: str  # the runner that has it (see `stint_runner.linux.incarnation`)
    boot: str  # the machine's start that the time counts from
    seconds: float  # W: for so long after the last confirmation it may run
    hold: bool = False  # it may run for ever, because its queue waits
    container_id: str = ""  # the engine's id, "" until it has a container
    # Of its secrets file (see `stint_runner.inputs.secretfile.Seal`), "" until it has a container.
    secrets_digest: str = ""
    started: float = 0  # when that was about to be started, by `linux.boot_time`; 0 until then


class StoredDeadline(msgspec.Struct, frozen=True):
    """A deadline as found on disk, and when its lease was last confirmed."""

    deadline: Deadline
    confirmed: float

    @property
    def due(self) -> float:
        """When the job must be dead, by `linux.boot_time`."""
        return self.confirmed + self.deadline.seconds


class Deadlines:
    """The deadlines of one runner, in a folder that it has for itself. `watched` says whether a watchdog reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watched = True
        self.process, self._boot = incarnation(os.getpid()), boot_id()
        self._lock: int | None = None

    def missing(self) -> str:
        """A sentence while no watchdog watches."""
        return "" if self.watched else UNWATCHED

    def open(self) -> bool:
        """Create and lock the folder; False if another runner of this name has it.

        Raises StateError if it cannot be used, or others could write to it.
        """
        try:
            _make_private(self.folder)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
        except BlockingIOError:
            return False
        except OSError as error:  # some file systems have no locks
            raise StateError(f"STINT_STATE_DIR: {self.folder} cannot be used: {error.strerror}.") from None
        self._lock = descriptor
        return True

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put(self, deadline: Deadline, confirmed: float) -> None:
        """Write a deadline. Raises StateError if it cannot be written."""
        draft = self.folder / f"{deadline.job_id}.new"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(encode(deadline))
            _stamp(draft, confirmed)
            draft.replace(self._path(deadline.job_id))
        except OSError as error:
            raise StateError(f"STINT_STATE_DIR: {self.folder} cannot be written: {error.strerror}.") from None

    def confirm(self, job_id: str, confirmed: float) -> None:
        """The job's lease was confirmed."""
        try:
            _stamp(self._path(job_id), confirmed)
        except OSError as error:  # the watchdog will end the job, which must not run unwatched
            log.error("deadline not written", job=job_id, error=error.strerror)  # noqa: TRY400 - a sentence says it

    def drop(self, job_id: str) -> None:
        """The job has no container any more. Safe to repeat."""
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:  # it changes nothing about the job; once it is due, the watchdog finds nothing to end
            log.error("deadline not removed", job=job_id, error=error.strerror)  # noqa: TRY400 - a sentence says it

    def all(self) -> Iterator[StoredDeadline]:
        """Those of this start of the machine. One that is dropped meanwhile, and a file that is none, are omitted."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                confirmed = path.stat().st_mtime_ns / _NANOSECONDS
                deadline = decode(path.read_bytes(), Deadline)
            except (OSError, UndecodableError):
                continue
            if deadline.boot == self._boot:
                yield StoredDeadline(deadline, confirmed)

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.json"


def _stamp(file: Path, moment: float) -> None:
    nanoseconds = int(moment * _NANOSECONDS)
    os.utime(file, ns=(nanoseconds, nanoseconds))


def state_folder(setting: str, runner: str) -> Path:
    """The runner's folder: in the one that is set, else in one that does not outlive the machine's start."""
    if setting:
        return Path(setting) / runner
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "stint" / runner
    if os.access("/run", os.W_OK):
        return Path("/run/stint") / runner
    # `tempfile` would take another folder while this one is full, and its next start would find no deadlines.
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"stint-{os.getuid()}" / runner  # noqa: S108 - it is made private


def _make_private(folder: Path) -> None:
    """Create the folder and its parents for this user only. An existing one must be safe, and so must its parent.

    Whoever may write to the parent can replace the folder. Raises StateError if others could, OSError if it cannot be.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_above(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"STINT_STATE_DIR: {folder} is a symbolic link.")
    if found.st_uid != os.geteuid():
        raise StateError(f"STINT_STATE_DIR: {folder} belongs to another user (id {found.st_uid}).")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(f"STINT_STATE_DIR: Other users may write to {folder}.")


def _check_above(folder: Path) -> None:
    """It, and a link to it, must be this user's or root's; if others may write to it, it must be sticky."""
    for found in (folder.lstat(), folder.stat()):
        if found.st_uid not in {0, os.geteuid()}:
            raise StateError(f"STINT_STATE_DIR: {folder} belongs to another user (id {found.st_uid}).")
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise StateError(f"STINT_STATE_DIR: Other users may write to {folder}.")
