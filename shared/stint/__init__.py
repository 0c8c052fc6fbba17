"""Stint: jobs in containers, one at a time per named queue, on an event log."""

import sys

__version__ = "0.1.0"

if sys.flags.optimize > 1:
    raise ImportError(
        "Stint does not run with -OO or PYTHONOPTIMIZE=2, which drop the docstrings that are its messages."
    )
