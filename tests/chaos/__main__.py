"""`python -m tests.chaos`: see `Plan.from_environment` for its settings."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import msgspec
import structlog

from tests.chaos.plan import Plan
from tests.chaos.run import run


def main() -> int:
    """0 without a violation, 1 with one, 2 for a wrong setting."""
    try:
        plan = Plan.from_environment()
    except msgspec.ValidationError as error:
        sys.stderr.write(f"chaos: {error}\n")
        return 2
    if plan.keep and Path(plan.keep).exists():
        sys.stderr.write(f"chaos: CHAOS_KEEP: {plan.keep} is there already\n")
        return 2
    sys.stdout.write(f"seed {plan.seed}: {plan.jobs} jobs and {plan.faults} faults in {plan.seconds:.0f} s\n")
    sys.stdout.flush()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    report = asyncio.run(run(plan))
    sys.stdout.write(f"{report.text}\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: its folder and processes go with it
    sys.exit(main())
