"""Looks for secrets in what a run leaves on a machine: files, and the arguments and environments of processes."""

import base64
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_ID = re.compile(r"[0-9a-f]{64}")
_PID = re.compile(r"^/proc/[0-9]+/")


class Leak(NamedTuple):
    """A secret that was found. `where` has `ID` in place of Docker's ids, and `PID` in place of a process's."""

    kind: str
    where: str


def spellings(secret: bytes) -> set[bytes]:
    """The secret as it is, in hex, and in base64 wherever it stands in the encoded text."""
    encoded = set()
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        # The first and last characters also depend on what stands before and behind the secret.
        encoded.add(text[(0, 2, 3)[before] : len(text) - (0 if (before + len(secret)) % 3 == 0 else 4)])
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), *encoded}


class Scanner:
    """Finds these secrets, which are given by their kind."""

    def __init__(self, secrets: Mapping[str, Iterable[bytes]]) -> None:
        self._needles = {
            kind: {spelling for secret in given for spelling in spellings(secret)} for kind, given in secrets.items()
        }
        assert all(len(needle) >= 8 for found in self._needles.values() for needle in found), "would be found anywhere"

    def data(self, where: str, data: bytes | mmap.mmap) -> Iterator[Leak]:
        """What is in these bytes."""
        for kind, needles in self._needles.items():
            if any(data.find(needle) >= 0 for needle in needles):
                yield Leak(kind, _PID.sub("/proc/PID/", _ID.sub("ID", where)))

    def files(self, folder: Path, *, since: float = 0.0, without: Iterable[Path] = ()) -> Iterator[Leak]:
        """What is in the regular files below this folder, on its own file system, that were changed since then."""
        left_out = {str(path) for path in without}
        device, folders = folder.stat().st_dev, [str(folder)]
        while folders:
            for path, found in _entries(folders.pop()):
                if path in left_out or found.st_dev != device:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    folders.append(path)
                elif stat.S_ISREG(found.st_mode) and found.st_size and found.st_ctime >= since:
                    yield from self._file(path)

    def _file(self, path: str) -> Iterator[Leak]:
        try:
            with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from self.data(path, data)
        except (FileNotFoundError, ValueError):  # it was removed, or emptied
            return

    def processes(self) -> Iterator[Leak]:
        """What is in the arguments and the environments of all processes that this one may read."""
        for path in Path("/proc").iterdir():
            for name in ("cmdline", "environ") if path.name.isdecimal() else ():
                try:
                    yield from self.data(str(path / name), (path / name).read_bytes())
                except OSError:  # it has ended, or is somebody else's
                    continue


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.path, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    except OSError:  # it was removed, or may not be read
        return
