"""A loop whose time jumps to the next timer when nobody has anything to do, whatever the machine does meanwhile."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

import pytest

P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):
    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass until the next timer is due."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        self.passed += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.passed


def now() -> float:
    """The time of the loop, in seconds since it began."""
    return asyncio.get_running_loop().time()


def in_virtual_time(*clocks: str) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Run the test in a loop of its own. `clocks` are the functions, as `module.name`, whose time is the loop's."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=_Loop) as runner:
                for clock in clocks:
                    patch.setattr(clock, now)
                runner.run(test(*args, **kwargs))

        return run

    return decorate
