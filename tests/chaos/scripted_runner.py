"""A runner with the scripted engine, and with the faults that `CHAOS_PLANT` names."""

import os
import sys

from stint.process import service
from stint.process.settings import RunnerSettings
from stint_runner.__main__ import serve
from tests.chaos.plan import PLANT
from tests.chaos.planted import plant
from tests.chaos.scripted_engine import from_settings


async def run(settings: RunnerSettings) -> None:
    watched = plant(os.environ.get(PLANT, ""))
    watchdog = "tests.chaos.scripted_watchdog" if watched else "tests.chaos.blind_watchdog"
    await serve(settings, lambda settings, *_: from_settings(settings), watchdog=watchdog)


if __name__ == "__main__":
    sys.exit(service.run(RunnerSettings, run))
