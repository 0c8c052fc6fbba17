"""Tables that fit the terminal."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec
from rich.cells import cell_len, set_cell_size

from stint.cli.show.terminal import printable

T = TypeVar("T")

NARROWEST: Final = 6
"""Cells that a column keeps when the terminal is too narrow for all."""
_GAP: Final = "  "


class Column(msgspec.Struct, Generic[T], frozen=True):
    """A column of a table.

    Attributes:
        text: what it shows of a row.
        wide: whether only `-o wide` shows it.
        firm: whether it is never cut.
        paint: gives a cell, whose text is cut already, its colour.
    """

    title: str
    text: Callable[[T], str]
    wide: bool = False
    firm: bool = False
    paint: Callable[[T, str], str] = lambda _row, shown: shown


def table(rows: Sequence[T], columns: Sequence[Column[T]], *, width: int | None, wide: bool = False) -> list[str]:
    """The table's lines, at most `width` cells wide if the firm columns leave room; None for any width."""
    columns = [column for column in columns if wide or not column.wide]
    cells = [[printable(column.text(row)) for column in columns] for row in rows]
    widths = [
        max(cell_len(column.title), *(cell_len(line[n]) for line in cells), 0) for n, column in enumerate(columns)
    ]
    if width is not None:
        _fit(widths, [column.firm for column in columns], width - len(_GAP) * (len(columns) - 1))
    lines = [[_cell(column.title, size) for column, size in zip(columns, widths, strict=True)]]
    for row, line in zip(rows, cells, strict=True):
        parts = zip(columns, line, widths, strict=True)
        lines.append([column.paint(row, _cell(text, size)) for column, text, size in parts])
    return [_GAP.join(line).rstrip() for line in lines]


def _fit(widths: list[int], firm: Sequence[bool], room: int) -> None:
    """Narrow the widest columns first."""
    while sum(widths) > room:
        soft = [n for n, size in enumerate(widths) if not firm[n] and size > NARROWEST]
        if not soft:
            return
        widths[max(soft, key=lambda n: widths[n])] -= 1


def _cell(text: str, size: int) -> str:
    return set_cell_size(text, size) if cell_len(text) <= size else f"{set_cell_size(text, size - 1)}…"
