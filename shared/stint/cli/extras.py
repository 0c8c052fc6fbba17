"""Commands that need more than a client does: what they need is an extra of the distribution."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Self

from stint.core.errors import ConfigError


class MissingExtraError(ConfigError):
    """An extra of stint-jobs is not installed."""

    @classmethod
    def of(cls, missing: str, extra: str) -> Self:
        """Say what is missing, and which extra brings it."""
        return cls(f"{missing} is not installed: pip install 'stint-jobs[{extra}]'.")


@contextmanager
def importing(extra: str) -> Iterator[None]:
    """Around imports of what this extra brings.

    Raises:
        MissingExtraError: one of the libraries is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stint"):  # a module of ours is missing: a defect, not an extra
            raise
        raise MissingExtraError.of(str(error.name), extra) from None


def require(extra: str, *modules: str) -> None:
    """Do nothing if these modules are installed; they are not imported.

    Raises:
        MissingExtraError: one of them is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError.of(module, extra)
