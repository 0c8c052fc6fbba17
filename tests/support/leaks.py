"""Looks for secrets in what a run leaves on a machine: files, and the arguments and environments of processes."""

import base64
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

_ID = re.compile(r"[0-9a-f]{64}")
_PART = 1024 * 1024
"""Bytes of a file that are looked at together."""
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
        lengths = {len(needle) for found in self._needles.values() for needle in found}
        assert min(lengths, default=8) >= 8, "would be found anywhere"
        self._longest = max(lengths, default=0)

    def data(self, where: str, data: bytes) -> Iterator[Leak]:
        """What is in these bytes."""
        yield from self._parts(where, [data])

    def _parts(self, where: str, parts: Iterable[bytes]) -> Iterator[Leak]:
        """The same, of bytes that come in parts: a secret may begin in one and end in the next."""
        kept, left = b"", dict(self._needles)
        for part in parts:
            data = kept + part
            for kind in [kind for kind, needles in left.items() if any(needle in data for needle in needles)]:
                del left[kind]
                yield Leak(kind, _PID.sub("/proc/PID/", _ID.sub("ID", where)))
            kept = data[-self._longest :]

    def files(self, folder: Path, *, since: float = 0.0, without: Iterable[Path] = ()) -> Iterator[Leak]:
        """What is in the regular files below this folder, on its own file system, that were changed since then."""
        left_out = {str(path) for path in without}
        try:
            device, folders = folder.stat().st_dev, [str(folder)]
        except FileNotFoundError:  # it was removed
            return
        while folders:
            for path, found in _entries(folders.pop()):
                if path in left_out or found.st_dev != device:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    folders.append(path)
                elif stat.S_ISREG(found.st_mode) and found.st_size and found.st_ctime >= since:
                    yield from self._file(path)

    def _file(self, path: str) -> Iterator[Leak]:
        """Read, not mapped into memory: to touch a page that the file has lost meanwhile would end this process."""
        try:
            with Path(path).open("rb") as file:
                yield from self._parts(path, iter(partial(file.read, _PART), b""))
        except FileNotFoundError:  # it was removed
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
