"""The watchdog of a runner with the scripted engine."""

import sys

from stint_runner.watchdog.watchdog import main
from tests.chaos.scripted_engine import from_settings

if __name__ == "__main__":
    sys.exit(main(from_settings))
