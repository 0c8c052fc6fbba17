"""The forms of an answer, which every command that shows something takes with `-o`."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
import typer

from stint.cli.errors import say
from stint.cli.show.table import Column, table
from stint.cli.show.terminal import coloured, printable, sentences, width

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
