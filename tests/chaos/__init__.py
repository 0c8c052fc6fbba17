"""Load, faults, and what must hold all the same: `python -m tests.chaos`."""
