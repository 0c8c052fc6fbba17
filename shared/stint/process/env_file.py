"""Files of `NAME=value` lines, for `. file` in a shell and for dotenv readers."""

import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from stat import S_IMODE, S_IRWXO
from typing import Final

from stint.core.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write the file atomically, with mode 0600; an existing file is replaced.

    A value that contains a single quote is only right for shells: dotenv readers do not agree on its quoting. Raises
    ConfigError as `write_private` does, and if a name or value cannot be represented. The message contains no value.
    """
    write_private(path, env_text(values))


def env_text(values: Mapping[str, str]) -> str:
    """What `write_env_file` writes."""
    return "".join(_line(name, value) for name, value in values.items())


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, with mode 0600; an existing file is replaced. Raises ConfigError if it cannot."""
    _write(path, text)


def save(path: Path, text: str, *, private: bool = True) -> None:
    """Write a file atomically. An existing one keeps its owner and mode, and a link stays one. Raises ConfigError.

    A new file has mode 0600, or 0644 if it is not private. A private one that is open to others gets mode 0600, too. So
    does one whose owner this user cannot keep.
    """
    _write(Path(os.path.realpath(path)), text, mode=0o600 if private else 0o644, keep=True)


def is_open(path: Path) -> bool:
    """Whether others than its owner and group may do anything with the file."""
    return path.exists() and bool(path.stat().st_mode & S_IRWXO)


def _write(path: Path, text: str, *, mode: int = 0o600, keep: bool = False) -> None:
    try:
        present = path.stat() if path.exists() else None
        if present and not path.is_file():
            raise ConfigError(f"{path} is not a regular file.")
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if keep and present:
                with suppress(PermissionError):
                    os.chown(draft, present.st_uid, present.st_gid)
                    if mode & S_IRWXO or not present.st_mode & S_IRWXO:
                        mode = S_IMODE(present.st_mode)
            draft.chmod(mode)
            draft.replace(path)
            _sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def _sync_folder(folder: Path) -> None:
    """Let a loss of power not bring back the file that was replaced.

    The new one is there all the same if a file system cannot do that, or this user may not read the folder.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read a file of `write_env_file`. A missing one is empty; lines of other forms are skipped. Raises ConfigError."""
    return dict(pair for line in _lines(path, missing_ok=True) if (pair := _parse(line)))


def read_variables(path: Path) -> Mapping[str, str]:
    """Read a file that a person wrote: besides empty lines and comments it has only lines `NAME=value`.

    Raises ConfigError, with nothing of its content, if it cannot be read, or has another line.
    """
    found = dict[str, str]()
    for number, line in enumerate(_lines(path), start=1):
        if pair := _parse(line):
            found |= [pair]
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ConfigError(f"{path}: line {number} is not NAME=value. Quote a value that has spaces or quotes.")
    return found


def _lines(path: Path, *, missing_ok: bool = False) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return ()
        raise ConfigError(f"{path} cannot be read.") from None


def _parse(line: str) -> tuple[str, str] | None:
    """As a shell reads it: a `#` begins a comment only where a word begins."""
    source = StringIO(line)
    words = shlex.shlex(source, posix=True)
    words.whitespace_split, words.commenters = True, ""
    try:
        name, equals, value = (words.get_token() or "").partition("=")
    except ValueError:  # a quote that is not closed
        return None
    rest = source.read().lstrip()
    return (name, value) if equals and _NAME.fullmatch(name) and rest[:1] in {"", "#"} else None


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name of an environment variable.")
    if not value.isprintable():
        raise ConfigError(f"{name}: an environment file cannot contain a control character.")
    return f"{name}={shlex.quote(value) if value else ''}\n"
