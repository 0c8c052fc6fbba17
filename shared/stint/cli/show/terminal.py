"""What standard output can show."""

import os
import shutil
import sys
from typing import Final

import typer

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
    """The same of a text that may have several lines, such as an error."""
    return "\n".join(map(printable, text.split("\n")))


def painted(word: str, shown: str) -> str:
    """Text in the colour of a status."""
    return typer.style(shown, fg=_COLOURS[word]) if word in _COLOURS and coloured() else shown
