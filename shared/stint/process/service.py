"""What all services' composition roots share: settings, logging, and exit codes with a message."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar

import uvloop

from stint.core.errors import BrokerClosedError, ConfigError
from stint.process import logs
from stint.process.core_dumps import prevent_core_dumps
from stint.process.environment import load
from stint.process.settings import Settings

S = TypeVar("S", bound=Settings)

USAGE_ERROR: Final = 2
BROKER_CLOSED: Final = 69
"""Exit code if the connection to NATS is closed for good: `EX_UNAVAILABLE` of sysexits.h."""
GARBAGE: Final = 5000
"""New objects from which on the collector looks at them. With Python's 700 it took 3 % of the CPU of the API, and of a
runner 2 % with 8 jobs at a time and 8 % with 64, for next to nothing: reference counts free what a request or a job
leaves behind, also one that fails."""
THREADS: Final = 32
"""For content and masking. The default on a small machine is a handful, which a few jobs with large content would
fill."""


def run(
    shape: type[S],
    serve: Callable[[S], Coroutine[Any, Any, None]],
    *,
    on_asyncio: Callable[[S], bool] = lambda _settings: False,
) -> int:
    """Read the settings from the environment and serve until a signal stops it; returns the process's exit code.

    The event loop is uvloop's, unless `on_asyncio` says that these settings need asyncio's own.
    """
    prevent_core_dumps()
    try:
        settings = load(shape, os.environ)
        logs.configure(settings.log_level)
        gc.freeze()  # what was imported is never garbage: the collector need not look at it again and again
        gc.set_threshold(GARBAGE)
        loop_factory = asyncio.new_event_loop if on_asyncio(settings) else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_with_threads(serve(settings)))
    except ConfigError as error:
        logs.tell(error.sentence)
        return USAGE_ERROR
    except BrokerClosedError as error:
        logs.tell(error.sentence)
        return BROKER_CLOSED
    return 0


def abandon(error: BrokerClosedError) -> NoReturn:
    """Exit at once, like `kill -9`: nothing is cancelled, and no clean-up runs."""
    logs.tell(error.sentence)
    os._exit(BROKER_CLOSED)


async def _with_threads(serving: Coroutine[Any, Any, None]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    await serving
