"""What a check found."""

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, Literal, get_args

import msgspec

from stint.core.view import parse_time

Verdict = Literal["ok", "warn", "bad", "skipped"]
"""Works; works, but not for long or not as it should; does not work; there was nothing to look at."""

WITHIN: Final = 5.0
"""Seconds for the answers of a server."""
SKEW: Final = 2.0
"""Seconds between two clocks that nobody notices; a `Date` has no fractions."""


class Finding(msgspec.Struct, frozen=True):
    """A finding. `mend` is what to do about it, "" if there is nothing to do."""

    verdict: Verdict
    about: str
    what: str
    mend: str = ""


ok, warn, bad, skipped = (partial(Finding, verdict) for verdict in get_args(Verdict))


def words(error: Exception) -> str:
    """An error in words, also if it has none, to stand at the end of a sentence."""
    said = "no answer in time" if isinstance(error, TimeoutError) else str(error).removesuffix(".")
    return said or type(error).__name__


def clock(about: str, said: object) -> list[Finding]:
    """How far a clock is from this machine's, by an answer's `Date` or a time (RFC 3339) in it; nothing by neither."""
    for parse in (parse_time, parsedate_to_datetime):
        with suppress(ValueError, TypeError):  # the last one if it has no zone
            return [skew(about, (parse(str(said)) - datetime.now(UTC)).total_seconds())]
    return []


def skew(about: str, seconds: float) -> Finding:
    """How far a clock is ahead."""
    if abs(seconds) <= SKEW:
        return ok(f"{about} clock", "within 2 s of this machine's")
    side = "ahead of" if seconds > 0 else "behind"
    mend = (
        "Synchronise the clocks of all machines (chrony, systemd-timesyncd): tokens, certificates and lists have times."
    )
    return warn(f"{about} clock", f"{abs(seconds):.0f} s {side} this machine's", mend)
