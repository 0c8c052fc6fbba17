"""The clock that leases are judged by."""

import time
from pathlib import Path


def boot_time() -> float:
    """Seconds since the machine started, its sleep included: the same for all processes, and after their restarts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Tells one start of the machine from the next; "" where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
