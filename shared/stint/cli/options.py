"""Commands that are made of functions with other parameters than their options."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def taking(shape: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make a command of a function of one dataclass: each of its fields is an option. typer knows only parameters."""

    def command_of(function: Callable[[T], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(shape(**values))

        return as_command(command, function, inspect.signature(shape, eval_str=True))

    return command_of


def as_command(
    command: Callable[..., None], function: Callable[..., Any], options: inspect.Signature
) -> Callable[..., None]:
    """The command with the name and the help of the function, and these options."""
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__signature__ = options  # type: ignore[attr-defined] # what typer reads
    command.__annotations__ = {}
    return command
