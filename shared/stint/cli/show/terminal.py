"""What standard output can show, and times for people."""

import os
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

from stint.core.errors import ConfigError

_COLOURS: Final = {
    "success": "green",
    "failed": "red",
    "notauthorised": "red",
    "unknown": "magenta",
    "running": "cyan",
    "stopping": "yellow",
    "queued": "blue",
}
_SPACES: Final = str.maketrans("\n\t", "  ")
"""\r is none of them: on a terminal it would hide what stands before it."""

_LONG: Final = re.compile(r"(\S{1100})\S+")
"""A queue's name may have 1000 characters, and stands between quotation marks."""
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))
_AGO: Final = re.compile(r"([0-9]{1,5})([smhd])")
_WORDS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def coloured() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody asked for none (`NO_COLOR`)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """The terminal's width, None if standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    """Text in which names that clients chose cannot move the cursor, or hide a line. Line ends and tabs are spaces."""
    if text.isprintable():
        return text
    shown = text.translate(_SPACES)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)


def sentences(text: str) -> str:
    """The same of a text that may have several lines, such as an error. Of a very long word only the beginning stands.

    Such a word is what somebody gave, repeated: a file's content where a name or an id was meant.
    """
    return _LONG.sub(r"\1…", "\n".join(map(printable, text.split("\n"))))


def painted(word: str, shown: str) -> str:
    """Text in the colour of a status."""
    return typer.style(shown, fg=_COLOURS[word]) if word in _COLOURS and coloured() else shown


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
