"""How commands fail: exit codes, and the libraries of an extra that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final, Self

import typer

from stint.cli.show.terminal import sentences
from stint.core.errors import ConfigError, StintError

NOT_SO: Final = 1
"""What was asked about is not so, or the job did not succeed and has no exit code of its own."""
USAGE: Final = 2
"""An option or a setting is wrong."""
TIMED_OUT: Final = 124
"""The time to wait is over."""
UNREACHABLE: Final = 125
"""Stint or Vault cannot be reached, or refuses."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
TERMINATED: Final = 143
"""SIGTERM."""

Errors = type[StintError] | tuple[type[StintError], ...]


@contextmanager
def reported(command: str, *, usage: Errors = ConfigError, code: int = UNREACHABLE) -> Iterator[None]:
    """Print an error of the block as a sentence, and exit: with 2 if it is a `usage` error, otherwise with `code`."""
    try:
        yield
    except StintError as error:
        typer.echo(f"{command}: {sentences(error.sentence)}", err=True)
        raise typer.Exit(USAGE if isinstance(error, usage) else code) from None


def say(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(f"stint: {sentences(text)}", err=True)


class MissingExtraError(ConfigError):
    """An extra of stint-jobs is not installed."""

    @classmethod
    def of(cls, missing: str, extra: str) -> Self:
        """Say what is missing, and which extra brings it."""
        return cls(f"{missing} is not installed: pip install 'stint-jobs[{extra}]'.")


@contextmanager
def importing(extra: str) -> Iterator[None]:
    """Around imports of what this extra brings. Raises MissingExtraError if one of the libraries is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stint"):  # a module of ours is missing: a defect, not an extra
            raise
        raise MissingExtraError.of(str(error.name), extra) from None


def require(extra: str, *modules: str) -> None:
    """Raise MissingExtraError if one of these modules is not installed. They are not imported."""
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError.of(module, extra)
