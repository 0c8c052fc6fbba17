"""Files of `NAME=value` lines, as `. file` in a shell and dotenv readers take them."""

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stint.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write the file with mode 0600, whole or not at all; a file that is there already is replaced.

    A value with a single quote in it is right for shells only: there is no spelling that all dotenv readers share.

    Raises:
        ConfigError: the file cannot be written, is not a regular file, or a name or value has no spelling. The
            sentence holds no value.
    """
    text = "".join(f"{_check_name(name)}={_quote(name, value)}\n" for name, value in values.items())
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file.")
    try:
        _replace(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def _replace(path: Path, text: str) -> None:
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


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name of an environment variable.")
    return name


def _quote(name: str, value: str) -> str:
    if not value.isprintable():
        raise ConfigError(f"{name}: a control character cannot stand in an environment file.")
    return shlex.quote(value) if value else ""
