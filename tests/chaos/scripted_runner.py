"""A runner with the scripted engine: `python -m tests.chaos.scripted_runner`."""

import sys

from stint import service
from stint.config import RunnerSettings
from stint_runner.__main__ import serve
from tests.chaos.scripted_engine import from_environment


async def run(settings: RunnerSettings) -> None:
    await serve(settings, lambda *_: from_environment(), watchdog="tests.chaos.scripted_watchdog")


if __name__ == "__main__":
    sys.exit(service.run(RunnerSettings, run))
