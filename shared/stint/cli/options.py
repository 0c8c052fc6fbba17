"""Commands that take many options as one object."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def taking(shape: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make a command of a function of one dataclass: each of its fields is an option. typer knows only parameters."""

    def command_of(function: Callable[[T], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(shape(**values))

        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        command.__signature__ = inspect.signature(shape, eval_str=True)  # type: ignore[attr-defined] # what typer reads
        command.__annotations__ = {}
        return command

    return command_of
