"""Times for people."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from stint.core.errors import ConfigError

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))
_AGO: Final = re.compile(r"([0-9]{1,5})([smhd])")
_WORDS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def lasted(begin: datetime | None, end: datetime | None = None) -> str:
    """How long it took, or takes so far: `5s`, `3m`, `7h`, `2d`; `-` if it has not begun."""
    if begin is None:
        return "-"
    return seconds(((end or datetime.now(UTC)) - begin).total_seconds())


def seconds(count: float) -> str:
    """A duration in its largest unit that is not too coarse."""
    count = max(count, 0)
    return next((f"{count / size:.0f}{unit}" for size, unit in _UNITS if count >= 2 * size), f"{count:.0f}s")


def moment(option: str, text: str) -> datetime:
    """A time from an option: RFC 3339, or a duration before now such as `12h`. Raises ConfigError if neither."""
    if found := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_WORDS[found[2]]: int(found[1])})
    try:
        return datetime.fromisoformat(text.upper())  # RFC 3339 allows `t` and `z`
    except ValueError:
        raise ConfigError(f"{option}: not a time (RFC 3339), nor a duration such as 12h or 7d.") from None
