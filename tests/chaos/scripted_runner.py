"""A runner with the scripted engine: `python -m tests.chaos.scripted_runner`."""

import sys

from stint.process import service
from stint.process.settings import RunnerSettings
from stint_runner.__main__ import serve
from tests.chaos.scripted_engine import from_settings


async def run(settings: RunnerSettings) -> None:
    await serve(settings, lambda settings, *_: from_settings(settings), watchdog="tests.chaos.scripted_watchdog")


if __name__ == "__main__":
    sys.exit(service.run(RunnerSettings, run))
