"""What a check found."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import msgspec

Verdict = Literal["ok", "warn", "bad", "skipped"]

SKEW: Final = 2.0
"""Seconds between two clocks that nobody notices; a `Date` has no fractions."""


class Finding(msgspec.Struct, frozen=True):
    """A finding. `mend` is what to do about it, "" if there is nothing to do."""

    verdict: Verdict
    about: str
    what: str
    mend: str = ""


def ok(about: str, what: str) -> Finding:
    """All is well."""
    return Finding("ok", about, what)


def bad(about: str, what: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding("bad", about, what, mend)


def warn(about: str, what: str, mend: str) -> Finding:
    """It works, but not for long, or not as it should."""
    return Finding("warn", about, what, mend)


def skipped(about: str, what: str) -> Finding:
    """There was nothing to look at."""
    return Finding("skipped", about, what)


def words(error: Exception) -> str:
    """An error in words, also if it has none."""
    return str(error) or type(error).__name__


def clock(about: str, headers: Mapping[str, str]) -> list[Finding]:
    """How far a server's clock is from this machine's, by the `Date` of its answer."""
    try:
        theirs = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return []
    return [skew(about, (theirs - datetime.now(UTC)).total_seconds())]


def skew(about: str, seconds: float) -> Finding:
    """How far a clock is ahead."""
    if abs(seconds) <= SKEW:
        return ok(f"{about} clock", "within 2 s of this machine's")
    side = "ahead of" if seconds > 0 else "behind"
    mend = "Synchronise the clocks of all machines (chrony, systemd-timesyncd): tokens and leases have times."
    return warn(f"{about} clock", f"{abs(seconds):.0f} s {side} this machine's", mend)
