"""Runs a watchdog: `python -m stint_runner.watchdog FOLDER PID`."""

import sys

from stint_runner.watchdog.watchdog import main

sys.exit(main())
