"""A loop whose time jumps to the next timer when nobody has anything to do, whatever the machine does meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

import pytest
from async_solipsism import EventLoop

P = ParamSpec("P")


def now() -> float:
    """The time of the loop, in seconds since it began."""
    return asyncio.get_running_loop().time()


def in_virtual_time(*clocks: str) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Run the test in a loop of its own. `clocks` are the functions, as `module.name`, whose time is the loop's."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=EventLoop) as runner:
                for clock in clocks:
                    patch.setattr(clock, now)
                runner.run(test(*args, **kwargs))

        return run

    return decorate
