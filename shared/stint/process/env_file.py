"""Files of `NAME=value` lines, for `. file` in a shell and for dotenv readers."""

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stint.core.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write the file atomically, with mode 0600; an existing file is replaced.

    A value that contains a single quote is only right for shells: dotenv readers do not agree on its quoting.

    Raises:
        ConfigError: the file cannot be written, is not a regular file, or a name or value cannot be represented. The
            message contains no value.
    """
    text = "".join(f"{_check_name(name)}={_quote(name, value)}\n" for name, value in values.items())
    write_private(path, text)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, with mode 0600; an existing file is replaced.

    Raises:
        ConfigError: the file cannot be written, or is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file.")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read a file of `write_env_file`; a missing file is empty. Lines of other forms are skipped.

    Raises:
        ConfigError: the file exists and cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read.") from None
    return dict(pair for line in lines if (pair := _parse(line)))


def _parse(line: str) -> tuple[str, str] | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    name, equals, value = words[0].partition("=") if len(words) == 1 else ("", "", "")
    return (name, value) if equals and _NAME.fullmatch(name) else None


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name of an environment variable.")
    return name


def _quote(name: str, value: str) -> str:
    if not value.isprintable():
        raise ConfigError(f"{name}: an environment file cannot contain a control character.")
    return shlex.quote(value) if value else ""
