"""The forms of an answer, which every command that shows something takes with `-o`; tables fit the terminal."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
import typer
from rich.cells import cell_len, set_cell_size

from stint.cli.errors import say
from stint.cli.show.terminal import coloured, printable, sentences, width

T = TypeVar("T")

NARROWEST: Final = 6
"""Cells that a column keeps when the terminal is too narrow for all."""
_GAP: Final = "  "

S = TypeVar("S", bound=msgspec.Struct)

FormName = Literal["table", "wide", "json", "name"]
Form = Annotated[
    FormName,
    typer.Option("--output", "-o", help="A table, one with more columns, a line of JSON for each, or only the names."),
]

ChangeFormName = Literal["text", "wide", "json", "name"]
ChangeForm = Annotated[
    ChangeFormName,
    typer.Option("--output", "-o", help="Words (text and wide), a line of JSON for each thing, or only its name."),
]


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
    while sum(widths) > room:
        soft = [n for n, size in enumerate(widths) if not firm[n] and size > NARROWEST]
        if not soft:
            return
        widths[max(soft, key=lambda n: widths[n])] -= 1


def _cell(text: str, size: int) -> str:
    return set_cell_size(text, size) if cell_len(text) <= size else f"{set_cell_size(text, size - 1)}…"


def as_json(value: object) -> bytes:
    """A line of JSON, in which what could deceive on a terminal is escaped: only texts contain it."""
    text = msgspec.json.encode(value).decode()
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text).encode()


def show_change(form: ChangeFormName, name: str, *, text: str, fields: object) -> None:
    """Print one thing that was changed: for people, as JSON with its fields, or its id or name."""
    match form:
        case "json":
            typer.echo(as_json(fields))
        case "name":
            typer.echo(name)
        case "text" | "wide":
            typer.echo(sentences(text))


def show_job_id(form: ChangeFormName, job_id: str) -> None:
    """Print the id of a job that was changed or made; as JSON it has the name that the API gives it."""
    show_change(form, job_id, text=job_id, fields={"_id": job_id})


def show_new_job(form: ChangeFormName, job_id: str) -> None:
    """Print the id of a job that was submitted. If standard output cannot be written, also say it on standard error."""
    try:
        show_job_id(form, job_id)
    except OSError:
        say(f"Job {job_id} is submitted.")
        raise


def show_all(rows: Sequence[S], columns: Sequence[Column[S]], form: FormName, *, name: Callable[[S], str]) -> None:
    """Print these rows. JSON has the fields of the API; times that have not come are null."""
    if form in {"json", "name"}:
        for row in rows:
            typer.echo(as_json(row) if form == "json" else name(row))
        return
    for line in table(rows, columns, width=width(), wide=form == "wide"):
        typer.echo(line, color=coloured())


def show(row: S, form: FormName, *, name: Callable[[S], str]) -> None:
    """Print one thing: as a table it has a line for each field that says something, with `wide` for each field."""
    if form in {"json", "name"}:
        show_all([row], (), form, name=name)
        return
    fields = [(field.encode_name.removeprefix("_"), getattr(row, field.name)) for field in msgspec.structs.fields(row)]
    for title, value in fields:
        if form == "wide" or value not in ("", None, 0, (), {}):
            typer.echo(f"{title:<18}{printable(_text(value))}")


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items() if part)
    if isinstance(value, msgspec.Struct):
        return _text(msgspec.structs.asdict(value))
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return str(value) if value is not None else "-"
